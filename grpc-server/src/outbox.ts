/**
 * One per server: the buffer in which a connection's frames of one turn are laid out, and the list of
 * connections that have something to send. What a connection sends in one turn of the event loop is one
 * socket write, and between turns no connection owns a buffer.
 */
import type { Socket } from 'node:net';

const SLAB_BYTES = 131_072;
/** A region smaller than this is not worth starting a write in. */
const MIN_ROOM_BYTES = 16_384;
/** Connections flushed before other events get their turn. */
const FLUSH_SLICE = 512;

export interface Producer {
  readonly socket: Socket;
  /** True from `schedule` until flushed. */
  scheduled: boolean;
  /** Lays out what is queued, by way of `outbox.reserve` and `outbox.append`. */
  produce(): void;
  /** After a write: the socket may hold bytes that it has not passed on. */
  onWritten(): void;
}

export class Outbox {
  /** Where frames are laid out: write at `position` after `reserve`, then advance it. */
  slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
  position = 0;
  owner: Producer | undefined;
  /** Socket writes so far. */
  writes = 0;

  private start = 0;
  /** Finished pieces of this write when shared bytes are sent without copying. */
  private pieces: Buffer[] = [];
  private piecesBytes = 0;
  private queue: Producer[] = [];
  private immediate: NodeJS.Immediate | undefined;
  private readonly onError: (error: unknown) => void;
  private readonly flushQueued = (): void => this.flushSlice();

  constructor(onError: (error: unknown) => void) {
    this.onError = onError;
  }

  /** Begins a turn: until `end`, the producer lays frames directly into the slab. */
  begin(producer: Producer): void {
    this.owner = producer;
  }

  /** Makes room for `bytes` (at most 64 KiB) at `position`, writing out what is there if need be. */
  reserve(bytes: number): void {
    if (this.position + bytes <= this.slab.length) return;
    this.write();
    if (this.position + bytes > this.slab.length) this.newSlab();
  }

  /** Sends bytes that nobody changes any more, without copying them, after what is laid out so far. */
  append(shared: Buffer): void {
    this.closePiece();
    this.pieces.push(shared);
    this.piecesBytes += shared.length;
  }

  /** Bytes laid out and not yet handed to the socket. */
  get pendingBytes(): number {
    return this.piecesBytes + this.position - this.start;
  }

  /** Hands what is laid out to the owner's socket, as one write. */
  write(): void {
    const owner = this.owner as Producer;
    const socket = owner.socket;
    if (this.pendingBytes === 0) return;
    this.writes++;
    if (this.pieces.length === 0) {
      socket.write(this.slab.subarray(this.start, this.position));
    } else {
      this.closePiece();
      socket.cork();
      for (const piece of this.pieces) socket.write(piece);
      socket.uncork();
      this.pieces = [];
      this.piecesBytes = 0;
    }
    // Nothing left in the socket: the kernel has its copy, and the region can be used again.
    if (socket.writableLength === 0 || socket.destroyed) this.position = this.start;
    else this.start = this.position;
    if (this.slab.length - this.position < MIN_ROOM_BYTES) this.newSlab();
    owner.onWritten();
  }

  /** Ends the turn: lays out what is queued and writes. */
  end(): void {
    const owner = this.owner as Producer;
    owner.produce();
    this.write();
    this.owner = undefined;
  }

  /** Has the producer flushed later in this turn of the event loop. */
  schedule(producer: Producer): void {
    if (producer.scheduled || this.owner === producer) return;
    producer.scheduled = true;
    this.queue.push(producer);
    this.immediate ??= setImmediate(this.flushQueued);
  }

  /** Forgets a producer's turn: its socket is gone. */
  abandon(producer: Producer): void {
    if (this.owner !== producer) return;
    this.position = this.start;
    this.pieces = [];
    this.piecesBytes = 0;
  }

  private flushSlice(): void {
    this.immediate = undefined;
    const queue = this.queue;
    const slice = queue.length <= FLUSH_SLICE ? queue : queue.slice(0, FLUSH_SLICE);
    this.queue = queue.length <= FLUSH_SLICE ? [] : queue.slice(FLUSH_SLICE);
    if (this.queue.length > 0) this.immediate = setImmediate(this.flushQueued);
    for (const producer of slice) {
      producer.scheduled = false;
      try {
        this.begin(producer);
        this.end();
      } catch (error) {
        this.owner = undefined;
        this.onError(error);
      }
    }
  }

  private closePiece(): void {
    if (this.position === this.start) return;
    this.pieces.push(this.slab.subarray(this.start, this.position));
    this.piecesBytes += this.position - this.start;
    this.start = this.position;
  }

  private newSlab(): void {
    this.slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
    this.start = 0;
    this.position = 0;
  }
}
