/** Who wants to know what becomes of a call. Made when the first one asks: most unary calls have none. */
import type { CloseReason } from './api.ts';
import { GrpcError, Status } from './errors.ts';

export class CallListeners {
  private abortController: AbortController | undefined = undefined;
  private cancelListeners: (() => void)[] | undefined = undefined;
  private closeListeners: ((reason: CloseReason) => void)[] | undefined = undefined;
  private drainListeners: (() => void)[] | undefined = undefined;
  private readonly onError: (error: unknown) => void;

  /** `onError`: what listeners throw. */
  constructor(onError: (error: unknown) => void) {
    this.onError = onError;
  }

  /** In the following, `reason` says how the call has ended, if it has: the listener is then called at once. */

  signal(reason: CloseReason | undefined): AbortSignal {
    if (this.abortController === undefined) {
      this.abortController = new AbortController();
      if (isAbnormal(reason)) this.abortController.abort(abortCause(reason));
    }
    return this.abortController.signal;
  }

  onCancel(listener: () => void, reason: CloseReason | undefined): void {
    if (reason === undefined) {
      this.cancelListeners ??= [];
      this.cancelListeners.push(listener);
    } else if (isAbnormal(reason)) {
      this.guard(listener);
    }
  }

  onClose(listener: (reason: CloseReason) => void, reason: CloseReason | undefined): void {
    if (reason === undefined) {
      this.closeListeners ??= [];
      this.closeListeners.push(listener);
    } else {
      this.guard(() => listener(reason));
    }
  }

  onDrain(listener: () => void): void {
    this.drainListeners ??= [];
    this.drainListeners.push(listener);
  }

  drained(): void {
    for (const listener of this.drainListeners ?? []) this.guard(listener);
  }

  /** Tells everyone, once, and forgets them. */
  closed(reason: CloseReason): void {
    const { cancelListeners, closeListeners } = this;
    this.closeListeners = undefined;
    this.cancelListeners = undefined;
    this.drainListeners = undefined;
    if (isAbnormal(reason)) {
      this.abortController?.abort(abortCause(reason));
      for (const listener of cancelListeners ?? []) this.guard(listener);
    }
    for (const listener of closeListeners ?? []) this.guard(() => listener(reason));
  }

  private guard(listener: () => void): void {
    try {
      listener();
    } catch (error) {
      this.onError(error);
    }
  }
}

/** The call was over before its handler said so. */
export function isAbnormal(reason: CloseReason | undefined): reason is CloseReason {
  return reason === 'cancelled' || reason === 'deadline' || reason === 'connection-lost';
}

export function abortCause(reason: CloseReason): GrpcError {
  const status = reason === 'deadline' ? Status.DEADLINE_EXCEEDED : Status.CANCELLED;
  return new GrpcError(status, `call over: ${reason}`);
}
