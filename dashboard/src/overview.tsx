import type { Quantiles, Sample, Stats } from '../../src/observe/stats.ts';
import { Chart } from './chart.tsx';
import { causeName } from './events.ts';
import { formatCount, formatMs } from './format.ts';

const causes = ['SET', 'HEARTBEAT', 'CONNECT', 'DISCONNECT', 'EXPIRED', 'NODE_LOST'] as const;
/** Samples drawn as one bar. */
const barSeconds = 5;

export function Overview({ stats, theme }: { readonly stats: Stats; readonly theme: string }) {
  const { history, sample } = stats;
  const times = history.map(({ atMs }) => atMs / 1000);
  const online = sample.online;
  const bars = toBars(history);
  const recent = history.slice(-10);
  return (
    <>
      <section className="hero card" aria-labelledby="online-title">
        <div className="hero-number">
          <h2 id="online-title">Online now</h2>
          <p className="big" data-testid="online">
            {online === null ? '–' : formatCount(online)}
          </p>
          <p className="muted">{trend(history)}</p>
        </div>
        <Chart
          kind="area"
          height={190}
          theme={theme}
          times={times}
          lines={[{ label: 'online', colour: '--flame', values: history.map((it) => it.online) }]}
          format={(value) => formatCount(Math.round(value))}
          summary={`Users online over the last ${minutes(history)} minutes: ${online ?? 'unknown'} now, between ${least(history)} and ${most(history)}.`}
        />
      </section>

      <section className="tiles" aria-label="Right now">
        <Tile label="Transitions" value={rate(recent, total)} unit="per second" />
        <Tile label="Heartbeats" value={rate(recent, (it) => it.heartbeats)} unit="per second" />
        <Tile
          label="Heartbeat, p99"
          value={formatMs(worst(recent, (it) => it.heartbeatMs))}
          unit="to answer"
        />
        <Tile
          label="Fan-out, p99"
          value={formatMs(worst(recent, (it) => it.fanOutMs))}
          unit="to the last watcher"
        />
        <Tile
          label="Connections"
          value={formatCount(connections(stats))}
          unit={`on ${plural(stats.nodes.length, 'node')}`}
        />
        <Tile
          label="Watched"
          value={formatCount(stats.nodes.reduce((sum, node) => sum + node.watchEdges, 0))}
          unit={`by ${plural(
            stats.nodes.reduce((sum, node) => sum + node.watchers, 0),
            'watcher',
          )}`}
        />
      </section>

      <div className="halves">
        <section className="card" aria-labelledby="transitions-title">
          <h2 id="transitions-title">Transitions per second</h2>
          <ul className="legend">
            {causes.map((cause) => (
              <li key={cause}>
                <i className={`swatch cause-${cause}`} aria-hidden="true" />
                {causeName(cause)} <b>{rate(recent, (it) => it.transitions[cause])}</b>
              </li>
            ))}
          </ul>
          <Chart
            kind="stacked-bars"
            height={190}
            theme={theme}
            times={bars.times}
            lines={causes.map((cause) => ({
              label: cause,
              colour: `--cause-${cause}`,
              values: bars.rates[cause],
            }))}
            format={(value) => String(Math.round(value * 10) / 10)}
            summary={`Transitions per second by cause; ${rate(recent, total)} now.`}
          />
        </section>
        <section className="card" aria-labelledby="latency-title">
          <h2 id="latency-title">Latency of the slowest node</h2>
          <ul className="legend">
            <li>
              <i className="swatch line-heartbeat" aria-hidden="true" />
              heartbeat p50 <b>{formatMs(sample.heartbeatMs?.p50)}</b>
            </li>
            <li>
              <i className="swatch line-heartbeat dashed" aria-hidden="true" />
              p99 <b>{formatMs(sample.heartbeatMs?.p99)}</b>
            </li>
            <li>
              <i className="swatch line-fan-out" aria-hidden="true" />
              fan-out p50 <b>{formatMs(sample.fanOutMs?.p50)}</b>
            </li>
            <li>
              <i className="swatch line-fan-out dashed" aria-hidden="true" />
              p99 <b>{formatMs(sample.fanOutMs?.p99)}</b>
            </li>
          </ul>
          <Chart
            kind="lines"
            height={190}
            theme={theme}
            times={times}
            lines={[
              {
                label: 'heartbeat p50',
                colour: '--heartbeat',
                values: history.map((it) => it.heartbeatMs?.p50 ?? null),
              },
              {
                label: 'heartbeat p99',
                colour: '--heartbeat',
                dashed: true,
                values: history.map((it) => it.heartbeatMs?.p99 ?? null),
              },
              {
                label: 'fan-out p50',
                colour: '--fan-out',
                values: history.map((it) => it.fanOutMs?.p50 ?? null),
              },
              {
                label: 'fan-out p99',
                colour: '--fan-out',
                dashed: true,
                values: history.map((it) => it.fanOutMs?.p99 ?? null),
              },
            ]}
            format={(value) => (value === 0 ? '0' : formatMs(value))}
            summary={`Latency: heartbeats ${formatMs(sample.heartbeatMs?.p50)} in the middle, ${formatMs(sample.heartbeatMs?.p99)} at the 99th percentile; fan-out ${formatMs(sample.fanOutMs?.p50)} and ${formatMs(sample.fanOutMs?.p99)}.`}
          />
        </section>
      </div>
    </>
  );
}

function Tile({
  label,
  value,
  unit,
}: {
  readonly label: string;
  readonly value: string;
  readonly unit: string;
}) {
  return (
    <dl className="card tile">
      <dt>{label}</dt>
      <dd>
        <strong>{value}</strong>
        <span className="muted">{unit}</span>
      </dd>
    </dl>
  );
}

function toBars(history: readonly Sample[]) {
  const times: number[] = [];
  const rates: Record<(typeof causes)[number], number[]> = {
    SET: [],
    HEARTBEAT: [],
    CONNECT: [],
    DISCONNECT: [],
    EXPIRED: [],
    NODE_LOST: [],
  };
  // Bars stand at whole multiples, so that they do not shuffle as time goes on.
  const groups = Map.groupBy(history, ({ atMs }) => Math.floor(atMs / 1000 / barSeconds) * barSeconds);
  for (const [time, samples] of groups) {
    times.push(time);
    for (const cause of causes) {
      rates[cause].push(samples.reduce((sum, it) => sum + it.transitions[cause], 0) / samples.length);
    }
  }
  return { times, rates };
}

function total({ transitions }: Sample): number {
  return causes.reduce((sum, cause) => sum + transitions[cause], 0);
}

function rate(samples: readonly Sample[], count: (sample: Sample) => number): string {
  if (samples.length === 0) return '–';
  const perSecond = samples.reduce((sum, it) => sum + count(it), 0) / samples.length;
  return perSecond >= 10 || perSecond === 0 ? formatCount(Math.round(perSecond)) : perSecond.toFixed(1);
}

function worst(samples: readonly Sample[], quantiles: (sample: Sample) => Quantiles): number | null {
  const values = samples.flatMap((it) => quantiles(it)?.p99 ?? []);
  return values.length === 0 ? null : Math.max(...values);
}

function connections(stats: Stats): number {
  return stats.nodes.reduce(
    (sum, node) => sum + Object.values(node.connections).reduce((a, b) => a + b, 0),
    0,
  );
}

function trend(history: readonly Sample[]): string {
  const known = history.filter((it) => it.online !== null);
  const first = known.at(-60) ?? known[0];
  const last = known.at(-1);
  if (!first || !last || first === last) return 'just started';
  const change = (last.online as number) - (first.online as number);
  const seconds = Math.round((last.atMs - first.atMs) / 1000);
  const sign = change > 0 ? '▲' : change < 0 ? '▼' : '＝';
  return `${sign} ${formatCount(Math.abs(change))} in ${seconds} s`;
}

function minutes(history: readonly Sample[]): number {
  return Math.max(1, Math.round(history.length / 60));
}

function least(history: readonly Sample[]): number {
  return Math.min(...history.map((it) => it.online ?? Number.POSITIVE_INFINITY));
}

function most(history: readonly Sample[]): number {
  return Math.max(...history.map((it) => it.online ?? 0));
}

function plural(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? '' : 's'}`;
}
