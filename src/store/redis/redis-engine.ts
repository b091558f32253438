import { setTimeout as sleep } from 'node:timers/promises';
import type { PresenceError } from '../../core/errors.ts';
import { joinAddress, type RedisTarget, splitAddress } from '../../core/redis-target.ts';
import type { Log } from '../../observe/log.ts';
import { Histogram } from '../../observe/measure.ts';
import { Admission, growthProbe } from './admission.ts';
import type { Keys } from './keys.ts';
import { type Locator, newLocator } from './locator.ts';
import { Outages } from './outages.ts';
import { engineError } from './redis-client.ts';
import { type CommandMeasures, RedisLink, type Request } from './redis-link.ts';
import { type Episode, RefusalLog } from './refusal-log.ts';
import { isReply, refusalCode, refusalTable, refusalText } from './refusals.ts';
import type { Script } from './scripts.ts';

export interface RedisEngineOptions {
  readonly target: RedisTarget;
  readonly partitions: number;
  readonly keys: Keys;
  /** How long a reply may take, ms. */
  readonly timeoutMs: number;
  readonly log: Log;
}

export interface EngineStats extends Readonly<CommandMeasures> {
  /** Redis servers that hold partitions. */
  readonly servers: number;
  readonly unavailablePartitions: number;
  readonly outages: number;
  /** All outages together, ms. */
  readonly outageMs: number;
  /** Commands that await their reply. */
  readonly inFlight: number;
  /** How often Redis, or the way to it, said no, by code. */
  readonly refusals: Readonly<Record<string, number>>;
}

/** Who is asked for the topology, in the log. */
const whereIs = 'Sentinels or Cluster';
/** How often the topology is asked for, ms: while all is well, and while something is away. */
const locateIntervalMs = 1000;
const urgentLocateIntervalMs = 250;
/** How long a server that Redis sent us to is kept, while it holds no partition. */
const redirectedKeepMs = 10_000;
const maxAttempts = 8;
/** How often a server is asked whether it still refuses, while it does. */
const refusalProbeMs = 250;
/** Pauses before a command is repeated whose keys are being moved, ms: twice as long each time, about 1 s together. */
const firstMovingRetryMs = 25;
const longestMovingRetryMs = 200;

/**
 * Redis, however many servers it is: sends each partition's commands to the server that holds it, and follows it when
 * it moves. Failures leave here as REDIS_ERROR.
 */
export class RedisEngine {
  readonly refusals: RefusalLog;
  readonly #options: RedisEngineOptions;
  readonly #locator: Locator;
  readonly #admission: Admission;
  readonly #links = new Map<string, RedisLink>();
  readonly #measures: CommandMeasures = { commandSeconds: new Histogram(), errors: 0 };
  /** The link to each partition's server. */
  readonly #homes: (RedisLink | undefined)[];
  #timer: NodeJS.Timeout | undefined;
  #locating = false;
  #locatedMs = Number.NEGATIVE_INFINITY;
  /** PARTITIONS was checked once; nothing is served before. */
  #isChecked = false;
  #stopped = false;
  #refusal: PresenceError | undefined;
  /** Servers that Redis sent us to lately. */
  readonly #neededUntilMs = new Map<RedisLink, number>();
  #locatorTrouble: string | undefined;
  readonly #probeTimer: NodeJS.Timeout;
  #wasAvailable: boolean[];
  readonly #outages: Outages;
  #onStarted: () => void = () => {};
  #onAvailable: (partitions: readonly number[]) => void = () => {};
  #onMoved: () => void = () => {};

  constructor(options: RedisEngineOptions) {
    this.#options = options;
    this.refusals = new RefusalLog(options.log, options.target.tls);
    this.#outages = new Outages(options.log);
    this.#probeTimer = setInterval(() => this.#probeRefusals(), refusalProbeMs);
    this.#locator = newLocator(options.target, options.partitions, options.timeoutMs);
    this.#admission = new Admission(options);
    this.#homes = new Array<undefined>(options.partitions).fill(undefined);
    this.#wasAvailable = new Array<boolean>(options.partitions).fill(false);
  }

  /** Whether partitions are on several servers, so that one command touches one partition only. */
  get isSplit(): boolean {
    return this.#options.target.mode === 'cluster';
  }

  /** Whether any partition's server answers. */
  get available(): boolean {
    return this.#isChecked && this.#refusal === undefined && this.#homes.some((link) => link?.available);
  }

  isAvailable(partition: number): boolean {
    return this.#isChecked && this.#refusal === undefined && this.#homes[partition]?.available === true;
  }

  /** Why nothing is available, as far as it is known. */
  get trouble(): string | undefined {
    for (const { trouble } of this.#links.values()) if (trouble !== undefined) return trouble;
    return this.#locatorTrouble;
  }

  /** What Redis refuses now, a sentence each: what keeps calls from being served, or (`isReady`) what little is refused. */
  refusalsNow(isReady: boolean): string[] {
    const homes = this.addresses();
    const concerns = ({ server, code }: Episode) =>
      refusalTable[code].isReady === isReady && (homes.has(server) || (!isReady && !this.available));
    const codes = new Set(this.refusals.open.filter(concerns).map(({ code }) => code));
    return [...codes].map(refusalText);
  }

  /** Address of the server that holds the partition; undefined = not known. */
  homeOf(partition: number): string | undefined {
    return this.#homes[partition]?.address;
  }

  /** Addresses of all servers that hold partitions. */
  addresses(): Set<string> {
    return new Set(this.#homes.flatMap((link) => (link ? [link.address] : [])));
  }

  /** Called with the partitions that can be used again, the first time included. */
  onAvailable(listener: (partitions: readonly number[]) => void): void {
    this.#onAvailable = listener;
  }

  /** Called when partitions are on other servers than before. */
  onMoved(listener: () => void): void {
    this.#onMoved = listener;
  }

  /**
   * Tries to connect, for at most the timeout; goes on trying by itself after that.
   *
   * @throws PresenceError INTERNAL: this Redis must not be used
   */
  async start(): Promise<void> {
    const { timeoutMs, target } = this.#options;
    const started = new Promise<void>((resolve) => {
      this.#onStarted = resolve;
    });
    this.#locateNow();
    if (target.mode !== 'standalone') this.#timer = setInterval(() => this.#tick(), urgentLocateIntervalMs);
    const timer = new AbortController();
    await Promise.race([started, sleep(timeoutMs, undefined, { signal: timer.signal }).catch(() => {})]);
    timer.abort();
    if (this.#refusal) throw this.#refusal;
  }

  stop(): void {
    this.#stopped = true;
    clearInterval(this.#timer);
    clearInterval(this.#probeTimer);
    this.#locator.stop();
    for (const link of this.#links.values()) link.stop();
  }

  /** Sends one command. Rejects with REDIS_ERROR: not connected, no reply in time, or an error reply. */
  command<Reply>(partition: number, args: readonly string[]): Promise<Reply> {
    return this.#send<Reply>({ partition, args, script: undefined, attempt: 0 });
  }

  /** Runs a script by its hash, and sends it along where Redis does not have it yet. */
  run<Reply>(
    partition: number,
    script: Script,
    keys: readonly string[],
    args: readonly string[],
  ): Promise<Reply> {
    const all = ['EVALSHA', script.sha1, String(keys.length), ...keys, ...args];
    return this.#send<Reply>({ partition, args: all, script, attempt: 0 });
  }

  /** Splits partitions into those that one command may touch together; those away just now are left out. */
  groups(partitions: readonly number[]): (readonly number[])[] {
    const present = partitions.filter((partition) => this.isAvailable(partition));
    if (this.isSplit) return present.map((partition) => [partition]);
    return present.length === 0 ? [] : [present];
  }

  stats(): EngineStats {
    let inFlight = 0;
    for (const link of this.#links.values()) inFlight += link.inFlight;
    const { length } = this.#homes;
    const availablePartitions = this.#wasAvailable.filter(Boolean).length;
    return {
      servers: this.addresses().size,
      unavailablePartitions: length - availablePartitions,
      outages: this.#outages.count,
      outageMs: this.#outages.totalMs,
      inFlight,
      refusals: this.refusals.counts,
      ...this.#measures,
    };
  }

  #send<Reply>(request: Request): Promise<Reply> {
    const link = this.#homes[request.partition];
    if (this.#refusal) return Promise.reject(engineError(this.#refusal.message));
    if (!link || !this.#isChecked) {
      const { trouble } = this;
      return Promise.reject(
        engineError(`Redis is not reachable${trouble === undefined ? '' : `: ${trouble}`}`),
      );
    }
    return link.send<Reply>(request);
  }

  /** What an error reply asks for; errors of the connection ask for nothing. */
  async #recover(error: unknown, request: Request, link: RedisLink): Promise<unknown> {
    const { message } = error as Error;
    const again: Request = { ...request, attempt: request.attempt + 1 };
    const [code, , address] = message.split(' ');
    if (isReply(error) && !this.#stopped) this.refusals.note(error, link.address);
    if (this.#stopped || again.attempt > maxAttempts) throw this.#failure(error);
    switch (code) {
      case 'NOSCRIPT': {
        const { script, args } = request;
        if (!script) break;
        return link.send({ ...again, args: ['EVAL', script.source, ...args.slice(2)] });
      }
      case 'MOVED': {
        const moved = await this.#readyLinkAt(address as string, link);
        if (this.#homes[request.partition] === link) this.#setHome(request.partition, moved);
        this.#locateNow();
        return moved.send(again);
      }
      case 'ASK':
        return (await this.#readyLinkAt(address as string, link)).sendAsking(again);
      case 'TRYAGAIN':
        await sleep(movingRetryMs(request.attempt));
        return this.#send(again);
      default:
        // A demoted master, a shard without one, a closed connection: somebody else may hold the partition by now.
        this.#locateNow();
    }
    throw this.#failure(error);
  }

  #failure(error: unknown): PresenceError {
    this.#measures.errors++;
    return engineError(`Redis refuses: ${refusalText(refusalCode(error))}`, error);
  }

  async #readyLinkAt(address: string, from: RedisLink): Promise<RedisLink> {
    const { host, port } = splitAddress(address);
    const link = this.#linkAt(host === '' ? joinAddress(splitAddress(from.address).host, port) : address);
    this.#neededUntilMs.set(link, performance.now() + redirectedKeepMs);
    const endMs = performance.now() + this.#options.timeoutMs;
    while (!link.available && performance.now() < endMs) await sleep(5);
    return link;
  }

  #linkAt(address: string): RedisLink {
    let link = this.#links.get(address);
    if (!link) {
      link = new RedisLink({
        ...this.#options,
        address,
        refusals: this.refusals,
        measures: this.#measures,
        admit: async (send) => {
          const partition = this.#partitionAt(address);
          const refused = await this.#admission.check(send, partition);
          this.refusals.over(address);
          for (const error of refused) this.refusals.note(error, address);
          if (partition === 0) this.#isChecked = true;
        },
        recover: (error, request, failed) => this.#recover(error, request, failed),
        onChange: () => this.#changed(),
      });
      this.#links.set(address, link);
    }
    return link;
  }

  /** The first partition that a server holds. */
  #partitionAt(address: string): number | undefined {
    const partition = this.#homes.findIndex((home) => home?.address === address);
    return partition === -1 ? undefined : partition;
  }

  /** Servers that refuse something may have stopped to. */
  #probeRefusals(): void {
    const { keys } = this.#options;
    for (const server of new Set(this.refusals.open.map((episode) => episode.server))) {
      const link = this.#links.get(server);
      const partition = this.#partitionAt(server);
      if (partition !== undefined && link?.available) {
        this.command(partition, growthProbe(keys, partition)).then(
          () => this.refusals.settle(server),
          // What it refuses is noted.
          () => {},
        );
      }
    }
  }

  #tick(): void {
    const isComplete = !this.#outages.isRunning && this.#isChecked;
    if (!isComplete || performance.now() - this.#locatedMs >= locateIntervalMs) this.#locateNow();
  }

  #locateNow(): void {
    const { target } = this.#options;
    if (this.#locating || this.#stopped) return;
    if (target.mode === 'standalone' && this.#links.size > 0) return;
    // Many commands fail at once: one question answers all.
    if (performance.now() - this.#locatedMs < urgentLocateIntervalMs / 2) return;
    this.#locating = true;
    this.#locator
      .locate()
      .then(
        (homes) => {
          this.refusals.over(whereIs);
          this.#adopt(homes);
        },
        (error: unknown) => {
          this.#locatorTrouble = refusalText(this.refusals.note(error, whereIs));
        },
      )
      .finally(() => {
        this.#locating = false;
        this.#locatedMs = performance.now();
      });
  }

  #adopt(addresses: readonly (string | undefined)[]): void {
    if (this.#stopped) return;
    let isMoved = false;
    for (const [partition, address] of addresses.entries()) {
      // A partition that nobody serves stays where it was: that server may come back.
      if (address === undefined || address === this.homeOf(partition)) continue;
      this.#homes[partition] = this.#linkAt(address);
      isMoved = true;
    }
    for (const [address, link] of this.#links) {
      // A master that its first slot is on the way to is no home yet, and answers already.
      if (this.#homes.includes(link) || (this.#neededUntilMs.get(link) ?? 0) > performance.now()) continue;
      this.#links.delete(address);
      this.#neededUntilMs.delete(link);
      link.stop();
      this.refusals.over(address);
    }
    if (!isMoved) return;
    this.#onMoved();
    this.#changed();
  }

  #setHome(partition: number, link: RedisLink): void {
    if (this.#homes[partition] === link) return;
    this.#homes[partition] = link;
    this.#onMoved();
    this.#changed();
  }

  /** Something became available, or not: tells who waits for it, and the operator, once per outage. */
  #changed(): void {
    if (this.#stopped) return;
    this.#takeRefusal();
    const back: number[] = [];
    for (const partition of this.#homes.keys()) {
      const isAvailable = this.isAvailable(partition);
      if (isAvailable && !this.#wasAvailable[partition]) back.push(partition);
      this.#wasAvailable[partition] = isAvailable;
    }
    this.#countOutages();
    if (this.#refusal || this.#wasAvailable.every(Boolean)) this.#onStarted();
    if (back.length > 0) this.#onAvailable(back);
  }

  #takeRefusal(): void {
    const before = this.#refusal?.message;
    this.#refusal = undefined;
    for (const link of this.#links.values()) this.#refusal ??= link.refusal;
    if (this.#refusal === undefined || this.#refusal.message === before) return;
    this.#options.log.error(
      { reason: this.#refusal.message },
      'redis must not be used: calls fail until that is mended',
    );
  }

  #countOutages(): void {
    if (!this.#isChecked) return;
    this.#outages.update(this.#wasAvailable.filter((isAvailable) => !isAvailable).length, () => {
      const away = this.#homes.filter((link) => !link?.available);
      return { servers: [...new Set(away.map((link) => link?.address))], reason: this.trouble };
    });
  }
}

function movingRetryMs(attempt: number): number {
  return Math.min(firstMovingRetryMs * 2 ** attempt, longestMovingRetryMs);
}
