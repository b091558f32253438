import { PresenceError } from '../../core/errors.ts';
import { type UserState, unknownState } from '../../core/presence.ts';
import { hiddenFromAll } from '../../core/privacy.ts';
import type { Keys } from './keys.ts';
import { pieces } from './pieces.ts';
import type { Privacies } from './privacies.ts';
import type { RedisEngine } from './redis-engine.ts';
import { scripts } from './scripts.ts';
import { splitLine, stateOfFields } from './state-line.ts';

export interface ReaderOptions {
  readonly engine: RedisEngine;
  readonly keys: Keys;
  readonly partitionOf: (userId: string) => number;
  readonly ttlMs: number;
  readonly privacies: Privacies;
}

/** How often privacy may change between a user's state and it. */
const maxPrivacyAttempts = 10;
/** Users read by one script call: 1 to 2 ms of Redis. */
const batchUsers = 500;
/** A caller with more users than this has script calls of its own. */
const mostShared = 32;

/** Reply of read-many.lua for a user that it cannot tell. */
const askAgain = '?';

/**
 * Reads present states. What is asked for in one turn of the event loop goes out together, each user once: one pipelined
 * round trip however many callers. A read never joins one that was sent before it, so callers read their own writes.
 */
export class Reader {
  readonly #options: ReaderOptions;
  #pending: Map<string, PromiseWithResolvers<UserState>> | undefined;
  #commands = 0;

  constructor(options: ReaderOptions) {
    this.#options = options;
  }

  /** Script calls made so far. */
  get commands(): number {
    return this.#commands;
  }

  /** In the order asked for. Rejects with REDIS_ERROR. */
  read(userIds: readonly string[]): Promise<UserState[]> {
    // In Cluster a slot may be on its way, which Redis can only see by the keys that a script declares.
    if (userIds.length > mostShared && !this.#options.engine.isSplit) return this.#readMany(userIds);
    return Promise.all(userIds.map((userId) => this.#ask(userId)));
  }

  async #readMany(userIds: readonly string[]): Promise<UserState[]> {
    const batches = this.#batches(userIds);
    return (await Promise.all(batches.map((batch) => this.#readBulk(batch)))).flat();
  }

  async #readBulk(userIds: readonly string[]): Promise<UserState[]> {
    const { engine, keys, partitionOf, ttlMs } = this.#options;
    this.#commands++;
    const first = userIds[0] as string;
    const partition = partitionOf(first);
    const lines = await engine.run<string>(
      partition,
      scripts.readMany,
      [keys.status(first)],
      [String(ttlMs), keys.startOf(partition), userIds.join('\n')],
    );
    const asked: Promise<unknown>[] = [];
    const replace = (index: number, reading: Promise<UserState>) =>
      asked.push(reading.then((state) => states.splice(index, 1, state)));
    const states = lines.split('\n').map((line, index) => {
      const userId = userIds[index] as string;
      if (line === '') return unknownState(userId);
      if (line === askAgain) {
        replace(index, this.#ask(userId));
        return unknownState(userId);
      }
      const fields = splitLine(line);
      const state = stateOfFields(fields);
      if (fields[9] !== undefined) replace(index, this.#withPrivacy(state, fields[9]));
      return state;
    });
    await Promise.all(asked);
    return states;
  }

  #ask(userId: string): Promise<UserState> {
    if (!this.#pending) {
      this.#pending = new Map();
      setImmediate(() => this.#flush());
    }
    let waiting = this.#pending.get(userId);
    if (!waiting) {
      waiting = Promise.withResolvers<UserState>();
      this.#pending.set(userId, waiting);
    }
    return waiting.promise;
  }

  #flush(): void {
    const pending = this.#pending as Map<string, PromiseWithResolvers<UserState>>;
    this.#pending = undefined;
    for (const batch of this.#batches([...pending.keys()])) {
      this.#readBatch(batch).then(
        (states) => {
          for (const [index, userId] of batch.entries()) {
            pending.get(userId)?.resolve(states[index] as UserState | Promise<UserState>);
          }
        },
        (error: unknown) => {
          for (const userId of batch) pending.get(userId)?.reject(error);
        },
      );
    }
  }

  /** Users that one script call may touch together. */
  #batches(userIds: readonly string[]): string[][] {
    const { engine, partitionOf } = this.#options;
    const places = engine.isSplit ? Map.groupBy(userIds, partitionOf).values() : [userIds];
    return [...places].flatMap((place) => pieces(place, batchUsers));
  }

  /** A user whose privacy is still to be read keeps nobody else waiting. */
  async #readBatch(userIds: readonly string[]): Promise<(UserState | Promise<UserState>)[]> {
    const lines = await this.#readLines(userIds);
    return userIds.map((userId, index) => {
      const line = lines[index];
      if (line == null) return unknownState(userId);
      const fields = splitLine(line);
      const state = stateOfFields(fields);
      return fields[9] === undefined ? state : this.#withPrivacy(state, fields[9]);
    });
  }

  #readLines(userIds: readonly string[]): Promise<(string | null)[]> {
    const { engine, keys, partitionOf, ttlMs } = this.#options;
    this.#commands++;
    return engine.run<(string | null)[]>(
      partitionOf(userIds[0] as string),
      scripts.read,
      userIds.flatMap((userId) => [
        keys.status(userId),
        keys.meta(userId),
        keys.deadlines(partitionOf(userId)),
      ]),
      [String(ttlMs), ...userIds],
    );
  }

  /** State and privacy as they were at one time: where privacy has changed meanwhile, both are read again. */
  async #withPrivacy(read: UserState, versionRead: string): Promise<UserState> {
    let state = read;
    let version: string | undefined = versionRead;
    let missing: string | undefined;
    for (let attempt = 0; attempt < maxPrivacyAttempts; attempt++) {
      if (version === undefined) return state;
      const privacy = await this.#options.privacies.read(state.userId, Number(version));
      if (privacy) return { ...state, privacy };
      if (version === missing) return { ...state, privacy: hiddenFromAll(Number(version)) };
      missing = version;
      const [line] = await this.#readLines([state.userId]);
      if (line == null) return unknownState(state.userId);
      const fields = splitLine(line);
      state = stateOfFields(fields);
      version = fields[9];
    }
    throw new PresenceError('REDIS_ERROR', 'the user changes too often to be read');
  }
}
