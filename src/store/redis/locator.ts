import { crc16 } from '../../core/partition.ts';
import { joinAddress, type RedisTarget, splitAddress } from '../../core/redis-target.ts';
import { type Client, engineError, newClient } from './redis-client.ts';

/** Finds the server that holds each partition now. */
export interface Locator {
  /**
   * The address of each partition's master; undefined where nobody serves it.
   *
   * @throws Error when nobody who could know answers
   */
  locate(): Promise<(string | undefined)[]>;
  stop(): void;
}

export function newLocator(target: RedisTarget, partitions: number, timeoutMs: number): Locator {
  switch (target.mode) {
    case 'standalone':
      return new FixedLocator(target.seeds[0] as string, partitions);
    case 'sentinel':
      return new SentinelLocator(target, partitions, timeoutMs);
    case 'cluster':
      return new ClusterLocator(target, partitions, timeoutMs);
  }
}

class FixedLocator implements Locator {
  readonly #homes: string[];

  constructor(address: string, partitions: number) {
    this.#homes = new Array<string>(partitions).fill(address);
  }

  async locate(): Promise<string[]> {
    return this.#homes;
  }

  stop(): void {}
}

class SentinelLocator implements Locator {
  readonly #target: RedisTarget;
  readonly #partitions: number;
  readonly #sources: Sources;

  constructor(target: RedisTarget, partitions: number, timeoutMs: number) {
    this.#target = target;
    this.#partitions = partitions;
    // Sentinels have no databases.
    this.#sources = new Sources({ ...target, database: 0 }, timeoutMs);
  }

  locate(): Promise<string[]> {
    const { masterName } = this.#target;
    return this.#sources.ask(['SENTINEL', 'GET-MASTER-ADDR-BY-NAME', masterName], (reply) => {
      if (reply === null) throw new Error(`no master is known by the name "${masterName}"`);
      const [host, port] = reply as [string, string];
      return new Array<string>(this.#partitions).fill(joinAddress(host, port));
    });
  }

  stop(): void {
    this.#sources.stop();
  }
}

type SlotRange = readonly [from: number, to: number, master: readonly [host: string | null, port: number]];

class ClusterLocator implements Locator {
  readonly #slots: readonly number[];
  readonly #sources: Sources;

  constructor(target: RedisTarget, partitions: number, timeoutMs: number) {
    // A partition's keys carry its number as their hash tag.
    this.#slots = Array.from({ length: partitions }, (_, partition) => crc16(String(partition)) % 16384);
    this.#sources = new Sources(target, timeoutMs);
  }

  locate(): Promise<(string | undefined)[]> {
    return this.#sources.ask(['CLUSTER', 'SLOTS'], (reply, source) => {
      const ranges = reply as SlotRange[];
      const addressOf = ([host, port]: SlotRange[2]) =>
        // A server that does not know its own name leaves it out.
        joinAddress(host === null || host === '' || host === '?' ? splitAddress(source).host : host, port);
      const homes = this.#slots.map((slot) => {
        const range = ranges.find(([from, to]) => from <= slot && slot <= to);
        return range && addressOf(range[2]);
      });
      this.#sources.add(ranges.map((range) => addressOf(range[2])));
      return homes;
    });
  }

  stop(): void {
    this.#sources.stop();
  }
}

/** Servers that can be asked the same question; the one that answered last is asked first. */
class Sources {
  readonly #target: RedisTarget;
  readonly #timeoutMs: number;
  /** Seeds first, then what was learnt, newest last. */
  #addresses: readonly string[];
  #current: { readonly address: string; readonly client: Client } | undefined;
  #stopped = false;

  constructor(target: RedisTarget, timeoutMs: number) {
    this.#target = target;
    this.#timeoutMs = timeoutMs;
    this.#addresses = target.seeds;
  }

  add(addresses: readonly string[]): void {
    this.#addresses = [...new Set([...this.#target.seeds, ...addresses])];
  }

  /** @throws Error of the last one asked */
  async ask<Answer>(
    args: readonly string[],
    read: (reply: unknown, address: string) => Answer,
  ): Promise<Answer> {
    let failure: unknown;
    const first = this.#current?.address;
    const others = this.#addresses.filter((address) => address !== first);
    for (const address of first === undefined ? others : [first, ...others]) {
      if (this.#stopped) break;
      try {
        return await this.#askOne(address, args, read);
      } catch (error) {
        failure = error;
        this.#forget();
      }
    }
    throw failure ?? engineError('the engine is closed');
  }

  stop(): void {
    this.#stopped = true;
    this.#forget();
  }

  async #askOne<Answer>(
    address: string,
    args: readonly string[],
    read: (reply: unknown, address: string) => Answer,
  ): Promise<Answer> {
    const deadline = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => deadline.reject(engineError(`${address} did not answer within ${this.#timeoutMs} ms`)),
      this.#timeoutMs,
    );
    try {
      const client = this.#current?.client ?? this.#open(address);
      if (!client.isReady) await Promise.race([client.connect(), deadline.promise]);
      const reply = await Promise.race([client.sendCommand(args as string[]), deadline.promise]);
      return read(reply, address);
    } finally {
      clearTimeout(timer);
    }
  }

  #open(address: string): Client {
    const client = newClient(this.#target, address, {
      connectTimeoutMs: this.#timeoutMs,
      reconnects: false,
    });
    // What fails is told to whoever asks.
    client.on('error', () => {});
    this.#current = { address, client };
    return client;
  }

  #forget(): void {
    if (this.#current?.client.isOpen) this.#current.client.destroy();
    this.#current = undefined;
  }
}
