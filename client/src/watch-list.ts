import { PresenceError } from './errors.ts';
import type { ClientFrame, ServerFrame } from './frames.ts';
import type { LocalView } from './local-view.ts';
import type { PresenceChange } from './types.ts';

type WatchFrame = Omit<Extract<ClientFrame, { readonly watch: unknown }>, 'requestId'>;
type UnwatchFrame = Omit<Extract<ClientFrame, { readonly unwatch: unknown }>, 'requestId'>;

export interface WatchListOptions {
  readonly view: LocalView;
  readonly request: (frame: WatchFrame | UnwatchFrame) => Promise<ServerFrame>;
  readonly onError: (error: unknown) => void;
}

/** Users of one frame; and never more than half of what the server takes. */
const maxUsersOfFrame = 500;
/** A version, quotes and commas around an id. */
const overheadBytes = 24;
const retryMs = 1000;

/** Keeps the server's watch list as the application wants it: edits of one turn go out together. */
export class WatchList {
  readonly #options: WatchListOptions;
  /** Users that the server has been told to watch in this session. */
  readonly #told = new Set<string>();
  /** Users whose watching changed since. */
  readonly #dirty = new Set<string>();
  #isOpen = false;
  #isPlanned = false;
  #maxFrameBytes = 0;
  /** The server sent nonsense: versions that came with it prove nothing. */
  #isDistrusted = false;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: WatchListOptions) {
    this.#options = options;
  }

  add(userIds: Iterable<string>, listener: (change: PresenceChange) => void): void {
    this.#touch(this.#options.view.add(userIds, listener));
  }

  remove(userIds: Iterable<string>, listener: (change: PresenceChange) => void): void {
    this.#touch(this.#options.view.remove(userIds, listener));
  }

  /** A session begins: the server watches nobody yet. */
  begin(maxFrameBytes: number): void {
    this.#isOpen = true;
    this.#maxFrameBytes = maxFrameBytes;
    this.#told.clear();
    this.#touch(this.#options.view.userIds);
  }

  interrupt(): void {
    this.#isOpen = false;
    clearTimeout(this.#retryTimer);
  }

  /** Nothing that is known counts at the next beginning: everything is to be told anew. */
  distrust(): void {
    this.#isDistrusted = true;
  }

  /** The server ended watches: their users may not be watched, or it cannot be said now that they may. */
  refused(error: PresenceError): void {
    this.#options.onError(error);
    this.#options.view.hide(error.userIds);
    if (error.retryable) this.#askLater(error.userIds);
  }

  #touch(userIds: readonly string[]): void {
    for (const userId of userIds) this.#dirty.add(userId);
    if (this.#isPlanned || this.#dirty.size === 0) return;
    this.#isPlanned = true;
    queueMicrotask(() => {
      this.#isPlanned = false;
      this.#flush();
    });
  }

  #flush(): void {
    const { view } = this.#options;
    const added: string[] = [];
    const removed: string[] = [];
    for (const userId of this.#dirty) {
      view.forget(userId);
      if (view.isWatched(userId)) {
        if (!this.#told.has(userId)) added.push(userId);
      } else if (this.#told.delete(userId)) {
        removed.push(userId);
      }
    }
    this.#dirty.clear();
    // Without a session there is nobody to tell; the next one begins with the whole list.
    if (!this.#isOpen) return;
    for (const userIds of this.#pieces(removed)) this.#ask({ unwatch: { userIds } }, []);
    for (const userIds of this.#pieces(added)) {
      for (const userId of userIds) this.#told.add(userId);
      const knownVersions = this.#isDistrusted
        ? []
        : userIds.map((userId) => String(view.get(userId)?.version ?? 0));
      this.#ask({ watch: { userIds, knownVersions } }, userIds);
    }
    this.#isDistrusted = false;
  }

  #ask(frame: WatchFrame | UnwatchFrame, userIds: readonly string[]): void {
    this.#options.request(frame).catch((error: unknown) => {
      const isLost = error instanceof PresenceError && error.code === 'DISCONNECTED';
      // The next session begins with the whole list.
      if (isLost || !this.#isOpen) return;
      this.#options.onError(error);
      if (!(error instanceof PresenceError)) return;
      if (error.retryable) this.#askLater(userIds);
      else this.#askWithout(error.userIds, userIds);
    });
  }

  #askLater(userIds: readonly string[]): void {
    for (const userId of userIds) {
      this.#told.delete(userId);
      this.#dirty.add(userId);
    }
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.#touch([]), retryMs);
  }

  /** The server takes a list whole or not at all: the others are not to go unwatched for those whom it refused. */
  #askWithout(refused: readonly string[], userIds: readonly string[]): void {
    this.#options.view.hide(refused);
    const others = userIds.filter((userId) => !refused.includes(userId));
    if (others.length === userIds.length) return;
    for (const userId of others) this.#told.delete(userId);
    this.#touch(others);
  }

  *#pieces(userIds: readonly string[]): Generator<string[]> {
    let piece: string[] = [];
    let bytes = 0;
    for (const userId of userIds) {
      // A UTF-16 unit takes at most 6 bytes, escaped.
      const size = userId.length * 6 + overheadBytes;
      if (piece.length > 0 && (piece.length >= maxUsersOfFrame || bytes + size > this.#maxFrameBytes / 2)) {
        yield piece;
        piece = [];
        bytes = 0;
      }
      piece.push(userId);
      bytes += size;
    }
    if (piece.length > 0) yield piece;
  }
}
