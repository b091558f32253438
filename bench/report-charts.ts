import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { barChart, lineChart } from '../src/cli/bench/chart.ts';
import { type Recorded, rounded } from './recorded.ts';

/** Draws what docs/performance.md shows, into `charts`. */
export function drawCharts(recorded: Recorded, charts: string): void {
  mkdirSync(charts, { recursive: true });
  const write = (name: string, svg: string): void => writeFileSync(join(charts, `${name}.svg`), svg);
  const kinds = (['stream', 'grpc', 'websocket'] as const).flatMap((kind) => {
    const found = recorded.find(`fanout-${kind}`, 'event');
    return found
      ? [{ name: kind, points: found.series.percentiles.map(([, value], step) => [step, value] as const) }]
      : [];
  });
  const shares = recorded
    .find('fanout-stream', 'event')
    ?.series.percentiles.map(([share], step) => [step, String(share)] as const);
  if (kinds.length > 0 && shares) {
    write(
      'fanout',
      lineChart({
        title: 'A change reaches 9,000 watchers',
        xLabel: 'per cent of watchers told',
        yLabel: 'ms from the call',
        logY: true,
        xTicks: shares,
        lines: kinds,
      }),
    );
  }
  const mixed = recorded.report('mixed')?.result.series.filter(({ seconds }) => seconds.length > 2) ?? [];
  if (mixed.length > 0) {
    write(
      'mixed',
      lineChart({
        title: 'A social app: p99 of each second',
        xLabel: 'second of the run',
        yLabel: 'ms',
        logY: true,
        lines: mixed.map(({ name, seconds }) => ({
          name,
          points: seconds.map(({ second, p99 }) => [second, p99] as const),
        })),
      }),
    );
  }
  const growth = [10_000, 100_000, 1_000_000].flatMap((users) => {
    const found = recorded.find(`growth-${users}`, 'heartbeat');
    return found ? [{ users, p50: found.series.p50, p99: found.series.p99 }] : [];
  });
  if (growth.length > 1) {
    write(
      'growth',
      lineChart({
        title: 'A heartbeat as the number of users grows, 10,000 per second',
        xLabel: 'users ONLINE',
        yLabel: 'ms',
        logX: true,
        lines: [
          { name: 'p50', points: growth.map(({ users, p50 }) => [users, p50] as const) },
          { name: 'p99', points: growth.map(({ users, p99 }) => [users, p99] as const) },
        ],
      }),
    );
  }
  const peers = recorded.peers();
  if (!peers) return;
  for (const [name, figure, unit] of [
    ['peers-heartbeats', 'heartbeats per second', ''],
    ['peers-fanout', 'fan-out p99, ms', ' ms'],
    ['peers-memory', 'server memory per watcher, KiB', ' KiB'],
  ] as const) {
    const bars = [
      ['literal specification', 'literal'],
      ['Socket.IO', 'socket.io'],
      ['Pilotlight', 'pilotlight'],
    ].map(([label, key]) => {
      const value = peers.meanOf(key as string, figure);
      return { name: label as string, value, text: `${rounded(value)}${unit}` };
    });
    write(name, barChart(figure, bars));
  }
}

/** Charts that belong below a part, where they were drawn. */
const placed: Readonly<Record<string, readonly (readonly [file: string, title: string])[]>> = {
  runs: [
    ['fanout', 'A change reaches 9,000 watchers'],
    ['mixed', 'A social app: p99 of each second'],
  ],
  growth: [['growth', 'A heartbeat as the number of users grows']],
  peers: [
    ['peers-heartbeats', 'heartbeats per second'],
    ['peers-fanout', 'fan-out p99'],
    ['peers-memory', 'memory of a watcher'],
  ],
};

/** Markdown that shows the charts of a part of the document. */
export function chartsOf(part: string, charts: string): string {
  return (placed[part] ?? [])
    .filter(([file]) => existsSync(join(charts, `${file}.svg`)))
    .map(([file, title]) => `\n\n![${title}](performance/${file}.svg)`)
    .join('');
}
