/** The streams of one connection, open and past. */
import type { Stream } from './stream.ts';

/** At least so many streams that we reset are remembered (`rememberReset`). */
const REMEMBERED_RESETS = 128;
const REMEMBERED_GAPS = 32;

export class StreamTable {
  /** The highest id that the client has used. */
  lastId = 0;
  /** Streams that the client has begun so far. */
  opened = 0;
  /** Places taken out of `maxConcurrentStreams`. */
  active = 0;
  /** A call that was refused as it came, of which the client has not sent the rest; 0: there is none. */
  refusedId = 0;

  // Most connections have one stream: it needs no map.
  private only: Stream | undefined = undefined;
  private more: Map<number, Stream> | undefined = undefined;
  private latest: Stream | undefined = undefined;
  private skippedIds: number[] | undefined = undefined;
  private resetIds: number[] | undefined = undefined;
  private resetCursor = 0;

  *[Symbol.iterator](): Iterator<Stream> {
    if (this.only !== undefined) yield this.only;
    if (this.more !== undefined) yield* this.more.values();
  }

  find(streamId: number): Stream | undefined {
    const latest = this.latest;
    if (latest !== undefined && latest.id === streamId) return latest.closed ? undefined : latest;
    const only = this.only;
    if (only !== undefined && only.id === streamId) return only;
    return this.more?.get(streamId);
  }

  /** Never begun by the client, nor closed by its use of a higher id (RFC 9113 §5.1.1). */
  isIdle(streamId: number): boolean {
    return (streamId & 1) === 0 || streamId > this.lastId;
  }

  /** The client begins a stream, whatever becomes of it. */
  begin(streamId: number): void {
    if (streamId > this.lastId + 2) this.rememberGap(this.lastId + 2, streamId - 2);
    this.lastId = streamId;
    this.opened++;
  }

  add(stream: Stream): void {
    this.active++;
    if (this.only === undefined) {
      this.only = stream;
    } else {
      this.more ??= new Map();
      this.more.set(stream.id, stream);
    }
    this.latest = stream;
  }

  /** Takes the stream off the table. Its place stays taken until `active` is counted down. */
  remove(stream: Stream): void {
    if (this.only === stream) this.only = undefined;
    else this.more?.delete(stream.id);
    if (this.more?.size === 0 && this.active === 1) this.more = undefined;
    if (this.latest === stream) this.latest = undefined;
  }

  /** Takes all streams off the table. */
  removeAll(): Stream[] {
    const streams = [...this];
    this.only = undefined;
    this.more = undefined;
    this.latest = undefined;
    return streams;
  }

  /**
   * Late frames on streams that we reset are ignored (§5.4.2). All streams that the client may have open at once
   * are remembered, since all of them may be answered early.
   */
  rememberReset(streamId: number, maxConcurrentStreams: number): void {
    this.resetIds ??= [];
    this.resetIds[this.resetCursor] = streamId;
    this.resetCursor = (this.resetCursor + 1) % Math.max(REMEMBERED_RESETS, maxConcurrentStreams);
  }

  wasReset(streamId: number): boolean {
    return this.resetIds?.includes(streamId) ?? false;
  }

  /** Closed unused: the client has passed over this id. */
  wasSkipped(streamId: number): boolean {
    const ids = this.skippedIds;
    if (ids === undefined) return false;
    for (let i = 0; i < ids.length; i += 2) {
      if (streamId >= (ids[i] as number) && streamId <= (ids[i + 1] as number)) return true;
    }
    return false;
  }

  private rememberGap(from: number, to: number): void {
    this.skippedIds ??= [];
    if (this.skippedIds.length >= 2 * REMEMBERED_GAPS) this.skippedIds.splice(0, 2);
    this.skippedIds.push(from, to);
  }
}
