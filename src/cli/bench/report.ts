import { escapeText, lineChart, short } from './chart.ts';
import type { Verdict } from './expect.ts';
import type { LoadOptions, ScenarioName } from './job.ts';
import { clientLimits, type RunResult, type SeriesResult } from './result.ts';

/** Everything about one run, as `--json` writes it. */
export interface RunReport {
  readonly scenario: ScenarioName;
  readonly startedAt: string;
  readonly command: string;
  readonly node: string;
  readonly machine: string;
  readonly load: Omit<LoadOptions, 'metadata'>;
  readonly processes: number;
  readonly result: RunResult;
  readonly clientLimits: readonly string[];
  readonly verdicts: readonly Verdict[];
}

const columns = ['', 'count', 'per second', 'mean', 'p50', 'p90', 'p99', 'p99.9', 'max', 'errors'] as const;

function row(series: SeriesResult): string[] {
  const { name, count, rate, errors, mean, p50, p90, p99, p999, max } = series;
  const times = [mean, p50, p90, p99, p999, max].map((ms) => (count === 0 ? '-' : formatMs(ms)));
  return [name, String(count), short(rate), ...times, String(errors)];
}

function formatMs(ms: number): string {
  if (ms >= 10_000) return `${(ms / 1000).toFixed(1)} s`;
  return ms >= 100 ? `${Math.round(ms)} ms` : `${ms.toFixed(ms >= 10 ? 1 : 2)} ms`;
}

/** The summary for a terminal. */
export function summary({ result, verdicts, load, processes }: RunReport): string {
  const rows = [[...columns], ...result.series.map(row)];
  const widths = columns.map((_, column) =>
    Math.max(...rows.map((cells) => (cells[column] as string).length)),
  );
  const table = rows.map((cells) =>
    cells
      .map((cell, column) =>
        column === 0 ? cell.padEnd(widths[0] as number) : cell.padStart(widths[column] as number),
      )
      .join('  '),
  );
  const facts = result.facts.map(
    ({ name, value, unit }) => `${name}: ${Math.round(value * 100) / 100} ${unit}`,
  );
  const limits = clientLimits(result);
  const how =
    load.rate === 0
      ? 'Closed loop: as many calls as were answered; times are from sending to answer.'
      : 'Open loop: times run from when each call was to begin, so that a stall counts for all it held up.';
  return [
    ...table,
    '',
    ...facts,
    ...(facts.length > 0 ? [''] : []),
    how,
    limits.length === 0
      ? `The load generator (${processes} ${processes === 1 ? 'process' : 'processes'}) was not the limit.`
      : `The load generator was the limit, the server may do better: ${limits.join('; ')}.`,
    ...verdicts.map(({ text, isMet, found }) => `${isMet ? 'met    ' : 'NOT MET'}  ${text}  (${found})`),
  ].join('\n');
}

/** The report as one HTML page, charts and all. */
export function htmlReport(report: RunReport): string {
  const { scenario, result, startedAt, command, node, machine, verdicts } = report;
  const cells = (tag: string, texts: readonly string[]): string =>
    `<tr>${texts.map((text) => `<${tag}>${escapeText(text)}</${tag}>`).join('')}</tr>`;
  const charts = result.series.filter(({ count }) => count > 0).flatMap(seriesCharts);
  const list = (title: string, items: readonly string[]): string =>
    items.length === 0
      ? ''
      : `<h2>${title}</h2><ul>${items.map((item) => `<li>${escapeText(item)}</li>`).join('')}</ul>`;
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>pilotlight bench ${scenario}</title>
<style>body{font:15px/1.5 sans-serif;max-width:760px;margin:2rem auto;padding:0 1rem;color-scheme:light dark}table{border-collapse:collapse}td,th{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #8884}td:first-child{text-align:left}code{overflow-wrap:anywhere}svg{max-width:100%;height:auto}</style>
<h1>pilotlight bench ${scenario}</h1>
<p>${escapeText(startedAt)} · Node ${escapeText(node)} · ${escapeText(machine)}<br><code>${escapeText(command)}</code></p>
<table>${cells('th', columns)}${result.series.map((series) => cells('td', row(series))).join('')}</table>
${list(
  'Facts',
  result.facts.map(({ name, value, unit }) => `${name}: ${Math.round(value * 100) / 100} ${unit}`),
)}
${list(
  'Expectations',
  verdicts.map(({ text, isMet, found }) => `${isMet ? 'met' : 'NOT MET'}: ${text} (${found})`),
)}
${list('Limits of the load generator', report.clientLimits)}
${charts.join('\n')}
</html>
`;
}

function seriesCharts({ name, seconds, percentiles }: SeriesResult): string[] {
  const overTime = lineChart({
    title: `${name}: time of each second`,
    xLabel: 'second of the run',
    yLabel: 'ms',
    logY: true,
    lines: [
      { name: 'p50', points: seconds.map(({ second, p50 }) => [second, p50] as const) },
      { name: 'p99', points: seconds.map(({ second, p99 }) => [second, p99] as const) },
    ],
  });
  const rate = lineChart({
    title: `${name}: per second`,
    xLabel: 'second of the run',
    yLabel: 'calls or events',
    lines: [{ name, points: seconds.map(({ second, count }) => [second, count] as const) }],
  });
  const steps = percentiles.map(([share, ms], step) => ({ share, ms, step }));
  const distribution = lineChart({
    title: `${name}: share of times not longer than`,
    xLabel: 'per cent',
    yLabel: 'ms',
    logY: true,
    xTicks: steps.map(({ share, step }) => [step, String(share)] as const),
    lines: [{ name, points: steps.map(({ step, ms }) => [step, ms] as const) }],
  });
  return [overTime, rate, distribution];
}
