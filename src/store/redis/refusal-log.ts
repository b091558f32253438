import { ConnectionTimeoutError } from 'redis';
import type { Log } from '../../observe/log.ts';
import { isReply, type RefusalCode, refusalCode, refusalTable } from './refusals.ts';

/** A refusal from when it was met first until it is over. */
export interface Episode {
  readonly code: RefusalCode;
  /** Address, or what else was asked. */
  readonly server: string;
  readonly sinceMs: number;
  /** When it was met last, by `performance.now()`, as the others. */
  seenMs: number;
  count: number;
}

/** Silence after which a refusal is over where commands are answered: of answers, and of connections that come slowly. */
const replyQuietMs = 1000;
const connectionQuietMs = 3000;

/** Counts every refusal by code, and tells the operator of each once when it begins and once when it is over. */
export class RefusalLog {
  readonly #log: Log;
  readonly #tls: boolean;
  readonly #counts = Object.fromEntries(Object.keys(refusalTable).map((code) => [code, 0])) as Record<
    RefusalCode,
    number
  >;
  readonly #episodes = new Map<string, Episode & { readonly isReply: boolean }>();

  /** @param tls whether connections are made by TLS */
  constructor(log: Log, tls: boolean) {
    this.#log = log;
    this.#tls = tls;
  }

  /** How often each was met. */
  get counts(): Readonly<Record<RefusalCode, number>> {
    return this.#counts;
  }

  /** Those not over, oldest first. */
  get open(): readonly Episode[] {
    return [...this.#episodes.values()];
  }

  note(error: unknown, server: string): RefusalCode {
    // A port without TLS waits for more, or answers: it depends on what the handshake looks like to it.
    const isHandshake = this.#tls && error instanceof ConnectionTimeoutError;
    const code = isHandshake ? 'TLS_TIMEOUT' : refusalCode(error);
    this.#counts[code]++;
    const { isLogged, reason, action } = refusalTable[code];
    if (!isLogged) return code;
    const key = `${code} ${server}`;
    const nowMs = performance.now();
    const episode = this.#episodes.get(key);
    if (episode) {
      episode.seenMs = nowMs;
      episode.count++;
      return code;
    }
    this.#episodes.set(key, {
      code,
      server,
      sinceMs: nowMs,
      seenMs: nowMs,
      count: 1,
      isReply: isReply(error),
    });
    this.#log.warn(
      { code, server, action, detail: (error as Error).message.trim() },
      `redis refuses: ${reason}`,
    );
    return code;
  }

  /** The server serves: what it refused before is over, unless it was met a moment ago. */
  settle(server: string): void {
    const nowMs = performance.now();
    for (const [key, episode] of this.#episodes) {
      const quietMs = episode.isReply ? replyQuietMs : connectionQuietMs;
      if (episode.server === server && nowMs - episode.seenMs > quietMs) this.#end(key, episode);
    }
  }

  /** The server passed every check, or nobody asks it any more. */
  over(server: string): void {
    for (const [key, episode] of this.#episodes) if (episode.server === server) this.#end(key, episode);
  }

  #end(key: string, { code, server, sinceMs, count }: Episode): void {
    this.#episodes.delete(key);
    const lastedMs = Math.round(performance.now() - sinceMs);
    this.#log.info({ code, server, lastedMs, count }, 'redis refuses this no more');
  }
}
