import { hash, randomUUID } from 'node:crypto';
import type { ConnectionKind } from '../core/connections.ts';
import type { Activity, UserState } from '../core/presence.ts';
import type { ConnectionOpened, ConnectionRenewal, EvictionReason, PresenceStore } from '../core/store.ts';
import type { Log } from '../observe/log.ts';

export interface ConnectionsOptions {
  readonly store: PresenceStore;
  readonly ttlMs: number;
  readonly log: Log;
}

/** One connection that this node holds for a user. */
export interface HeldConnection {
  readonly id: string;
  readonly userId: string;
  /** What the engine is told at each renewal; undefined until it has answered the opening. */
  renewal: ConnectionRenewal | undefined;
  /** Called when it is to be closed. */
  readonly onEvicted: (reason: EvictionReason) => void;
}

/** Renewed by one call to the engine. */
const renewBatchConnections = 500;
/** Taken back at one time, after an outage. */
const closeBatchConnections = 100;

/**
 * The connections that this node holds. Each is renewed at half the TTL, all of them in batches; one that closes while
 * the engine is away is taken back when it answers.
 */
export class Connections {
  readonly #options: ConnectionsOptions;
  readonly #held = new Map<string, HeldConnection>();
  /** Closed, but not yet so in the engine; with the time when it lapses there by itself. */
  readonly #unclosed = new Map<string, { readonly userId: string; readonly lapsesMs: number }>();
  #timer: NodeJS.Timeout | undefined;
  #isRenewing = false;
  #isHandingOver = false;
  #isStopped = false;

  constructor(options: ConnectionsOptions) {
    this.#options = options;
    options.store.onEvicted((connectionId, reason) => this.#evict(connectionId, reason));
    options.store.onRenewalWanted(() => this.#plan(0));
  }

  start(): void {
    this.#plan(this.#options.ttlMs / 2);
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  /** Sizes of everything that could leak, for tests and metrics. */
  stats(): { held: number; unclosed: number } {
    return { held: this.#held.size, unclosed: this.#unclosed.size };
  }

  /**
   * Opens a connection of a user.
   *
   * @param resumes resume token of the connection that it continues; null = it is new
   * @returns with the token by which it can be resumed, which is kept nowhere
   * @throws PresenceError REDIS_ERROR
   */
  async open(
    userId: string,
    kind: ConnectionKind,
    device: string,
    activity: Activity | null,
    resumes: string | null,
    onEvicted: (reason: EvictionReason) => void,
  ): Promise<{ held: HeldConnection; opened: ConnectionOpened; resumeToken: string }> {
    const resumeToken = randomUUID();
    const held: HeldConnection = { id: idOf(resumeToken), userId, renewal: undefined, onEvicted };
    const connection = { connectionId: held.id, kind, device, activity };
    this.#held.set(held.id, held);
    const replaces = resumes === null ? null : idOf(resumes);
    try {
      const opened = await this.#options.store.connect({
        userId,
        connection,
        replaces,
        isResumed: resumes !== null,
      });
      held.renewal = { userId, connection: { ...connection, sinceMs: opened.sinceMs } };
      // The link that the client left may still be open here: renewing it would count it again.
      if (opened.replaced && replaces !== null) this.#held.delete(replaces);
      return { held, opened, resumeToken };
    } catch (error) {
      this.#held.delete(held.id);
      // It may have happened all the same.
      this.#closeLater(held);
      throw error;
    }
  }

  /** @throws PresenceError REDIS_ERROR */
  async setActivity(held: HeldConnection, activity: Activity): Promise<UserState> {
    if (held.renewal) {
      const { userId, connection } = held.renewal;
      held.renewal = { userId, connection: { ...connection, activity } };
    }
    return this.#options.store.setConnectionActivity(held.userId, held.id, activity);
  }

  /**
   * Takes a connection back. During a hand-over the engine is told only of those that said goodbye: the others go on
   * elsewhere. Never rejects.
   */
  async close(held: HeldConnection, saidGoodbye: boolean): Promise<void> {
    if (!this.#held.delete(held.id)) return;
    if (this.#isHandingOver && !saidGoodbye) return;
    try {
      await this.#options.store.disconnect(held.userId, held.id);
    } catch (error) {
      this.#options.log.debug({ err: error }, 'connection not taken back yet');
      this.#closeLater(held);
    }
  }

  /** From now on connections that close are left to run, for another node to take over. */
  handOver(): void {
    this.#isHandingOver = true;
  }

  /** Gives these a full TTL from now; failures are logged. Never rejects. */
  async renew(connections: readonly HeldConnection[]): Promise<boolean> {
    let isRenewed = true;
    for (let start = 0; start < connections.length; start += renewBatchConnections) {
      const batch = connections.slice(start, start + renewBatchConnections);
      const renewals = batch.map(({ renewal }) => renewal).filter((it) => it !== undefined);
      try {
        const evicted = await this.#options.store.renewConnections(renewals);
        for (const connectionId of evicted) this.#evict(connectionId, 'REPLACED');
      } catch (error) {
        this.#options.log.debug({ err: error }, 'connections not renewed; trying again soon');
        isRenewed = false;
      }
    }
    return isRenewed;
  }

  #evict(connectionId: string, reason: EvictionReason): void {
    const held = this.#held.get(connectionId);
    // Of a deleted user nothing is renewed any more, nor taken back.
    if (reason === 'DELETED') this.#held.delete(connectionId);
    held?.onEvicted(reason);
  }

  #closeLater({ id, userId }: HeldConnection): void {
    this.#unclosed.set(id, { userId, lapsesMs: performance.now() + this.#options.ttlMs });
  }

  #plan(delayMs: number): void {
    if (this.#isStopped) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#runRound(), delayMs);
    this.#timer.unref();
  }

  async #runRound(): Promise<void> {
    const { ttlMs } = this.#options;
    if (this.#isRenewing) {
      this.#plan(ttlMs / 8);
      return;
    }
    this.#isRenewing = true;
    const beganMs = performance.now();
    const isDone = await this.#round();
    this.#isRenewing = false;
    const intervalMs = isDone ? ttlMs / 2 : Math.min(1000, ttlMs / 8);
    this.#plan(Math.max(0, beganMs + intervalMs - performance.now()));
  }

  /** Never rejects. false: the engine did not take all of it. */
  async #round(): Promise<boolean> {
    if (!(await this.#closeUnclosed())) return false;
    return this.renew([...this.#held.values()]);
  }

  async #closeUnclosed(): Promise<boolean> {
    const nowMs = performance.now();
    for (const [connectionId, { lapsesMs }] of this.#unclosed) {
      if (lapsesMs <= nowMs) this.#unclosed.delete(connectionId);
    }
    const unclosed = [...this.#unclosed];
    for (let start = 0; start < unclosed.length; start += closeBatchConnections) {
      const batch = unclosed.slice(start, start + closeBatchConnections);
      try {
        await Promise.all(
          batch.map(async ([connectionId, { userId }]) => {
            await this.#options.store.disconnect(userId, connectionId);
            this.#unclosed.delete(connectionId);
          }),
        );
      } catch (error) {
        this.#options.log.debug({ err: error }, 'connections not taken back yet');
        return false;
      }
    }
    return true;
  }
}

/**
 * A connection's id, which the user's other devices and backends may see: the hash of its resume token, so that any node knows
 * the connection by the token, and nobody the token by the id.
 */
function idOf(resumeToken: string): string {
  return hash('sha256', resumeToken, 'hex').slice(0, 32);
}
