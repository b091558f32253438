import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SeriesResult } from '../src/cli/bench/result.ts';
import type { RecordedReport } from './record.ts';

/** One series of a recorded run. */
export interface Found {
  readonly series: SeriesResult;
  /** NaN: the run has none of this name. */
  readonly fact: (name: string) => number;
  readonly report: RecordedReport;
}

/** What `bench/peers/run.ts` found: of each server, the figures of each round. */
interface PeersReport {
  readonly found: Readonly<Record<string, readonly Readonly<Record<string, number>>[]>>;
}

/** A folder of results, as bench/record.ts writes it. */
export class Recorded {
  readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
  }

  /** Empty: there is no such file. */
  text(file: string): string {
    const path = join(this.folder, file);
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  }

  report(name: string): RecordedReport | undefined {
    const text = this.text(`${name}.json`);
    return text === '' ? undefined : (JSON.parse(text) as RecordedReport);
  }

  find(name: string, seriesName: string): Found | undefined {
    const report = this.report(name);
    const series = report?.result.series.find((it) => it.name === seriesName);
    if (!report || !series) return undefined;
    const fact = (wanted: string): number =>
      report.result.facts.find((it) => it.name === wanted)?.value ?? Number.NaN;
    return { series, fact, report };
  }

  peers(): Peers | undefined {
    const text = this.text('peers.json');
    return text === '' ? undefined : new Peers(JSON.parse(text) as PeersReport);
  }
}

export class Peers {
  readonly #found: PeersReport['found'];

  constructor({ found }: PeersReport) {
    this.#found = found;
  }

  get figures(): readonly string[] {
    return Object.keys(this.#found.pilotlight?.[0] ?? {});
  }

  /** Over all rounds; NaN: this server has no such figure. */
  meanOf(server: string, figure: string): number {
    const rounds = (this.#found[server] ?? []).map((figures) => figures[figure] ?? Number.NaN);
    return rounds.reduce((sum, value) => sum + value, 0) / rounds.length;
  }
}

export const whole = (value: number): string => Math.round(value).toLocaleString('en');

/** Three digits. */
export const rounded = (value: number): string =>
  Number.isNaN(value) ? '-' : value >= 100 ? whole(value) : String(Number(value.toPrecision(3)));
