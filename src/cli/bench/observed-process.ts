import { readFileSync } from 'node:fs';
import { monoMs } from './clock.ts';
import type { FactResult } from './result.ts';

/** Linux counts a process' CPU time in hundredths of a second. */
const ticksPerSecond = 100;

interface Sample {
  readonly atMs: number;
  readonly cpuSeconds: number;
  readonly rssBytes: number;
}

/** A process of this machine (a server, a Redis) whose CPU and memory are told beside the load's figures. Linux only. */
export class ObservedProcess {
  readonly name: string;
  readonly #pid: number;
  #idle: Sample | undefined;
  #began: Sample | undefined;

  /** @param text `name=pid` @throws Error when there is no such process, or no /proc */
  constructor(text: string) {
    const match = /^([a-z][a-z0-9-]*)=(\d+)$/.exec(text);
    if (!match) throw new Error(`"${text}" is not name=pid`);
    this.name = match[1] as string;
    this.#pid = Number(match[2]);
    this.#sample();
  }

  /** Before anything is prepared. */
  markIdle(): void {
    this.#idle = this.#sample();
  }

  /** When the load begins. */
  markBegin(): void {
    this.#began = this.#sample();
  }

  /** @param connections that the load holds open, for the memory of each; 0: none */
  facts(connections: number): FactResult[] {
    const end = this.#sample();
    const began = this.#began as Sample;
    const idle = this.#idle as Sample;
    const cpu = (end.cpuSeconds - began.cpuSeconds) / ((end.atMs - began.atMs) / 1000);
    const facts = [
      { name: `${this.name}-cpu`, value: cpu * 100, unit: '% of a core' },
      { name: `${this.name}-cpu-seconds`, value: end.cpuSeconds - began.cpuSeconds, unit: 's' },
      { name: `${this.name}-rss`, value: end.rssBytes / 1_048_576, unit: 'MiB' },
    ];
    if (connections === 0) return facts;
    const each = (end.rssBytes - idle.rssBytes) / 1024 / connections;
    return [...facts, { name: `${this.name}-memory-per-connection`, value: each, unit: 'KiB' }];
  }

  #sample(): Sample {
    const stat = readFileSync(`/proc/${this.#pid}/stat`, 'latin1');
    // The name before it may hold spaces and brackets; fields are counted from the last bracket.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const ticks = Number(fields[11]) + Number(fields[12]);
    const status = readFileSync(`/proc/${this.#pid}/status`, 'latin1');
    const rssKib = Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0);
    return { atMs: monoMs(), cpuSeconds: ticks / ticksPerSecond, rssBytes: rssKib * 1024 };
  }
}
