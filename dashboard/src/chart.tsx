import { useEffect, useRef } from 'react';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { formatTime } from './format.ts';

export interface Line {
  readonly label: string;
  /** A custom property of styles.css. */
  readonly colour: string;
  readonly values: readonly (number | null)[];
  readonly dashed?: boolean;
}

export interface ChartProps {
  /** What it shows, for those who do not see it. */
  readonly summary: string;
  /** Unix seconds. */
  readonly times: readonly number[];
  readonly lines: readonly Line[];
  readonly kind: 'area' | 'lines' | 'stacked-bars';
  readonly height: number;
  readonly format: (value: number) => string;
  /** Changes when the colours do. */
  readonly theme: string;
}

/** Least seconds shown, so that a server's first minute does not look like a stampede. */
const minSpanSeconds = 60;

export function Chart({ summary, times, lines, kind, height, format, theme }: ChartProps) {
  const holder = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const formatRef = useRef(format);
  formatRef.current = format;
  const shape = JSON.stringify(lines.map(({ label, colour, dashed }) => [label, colour, dashed]));
  const data = toData(times, lines, kind);
  const dataRef = useRef(data);
  dataRef.current = data;

  useEffect(() => {
    const element = holder.current as HTMLDivElement;
    const drawn = JSON.parse(shape) as [string, string, boolean?][];
    const chart = new uPlot(
      {
        width: Math.max(element.clientWidth, 100),
        height,
        legend: { show: false },
        cursor: { points: { size: 6 }, drag: { x: false, y: false } },
        padding: [8, 4, 0, 0],
        scales: {
          x: { range: (_plot, min, max) => [Math.min(min, max - minSpanSeconds), max] },
          y: { range: (_plot, _min, max) => [0, max > 0 ? max * 1.15 : 1] },
        },
        axes: [
          axis({ size: 30, space: 80, values: (_plot, values) => values.map(clock) }),
          axis({ size: 52, space: 34, values: (_plot, values) => values.map((v) => formatRef.current(v)) }),
        ],
        series: [{}, ...series(drawn, kind)],
      },
      dataRef.current,
      element,
    );
    plot.current = chart;
    const observer = new ResizeObserver(() =>
      chart.setSize({ width: Math.max(element.clientWidth, 100), height }),
    );
    observer.observe(element);
    return () => {
      observer.disconnect();
      chart.destroy();
      plot.current = undefined;
    };
  }, [shape, kind, height, theme]);

  useEffect(() => {
    plot.current?.setData(data);
  });

  return (
    <div className="chart">
      <div ref={holder} role="img" aria-label={summary} />
    </div>
  );
}

function toData(
  times: readonly number[],
  lines: readonly Line[],
  kind: ChartProps['kind'],
): uPlot.AlignedData {
  if (kind !== 'stacked-bars') return [[...times], ...lines.map(({ values }) => [...values])];
  // Each bar stands on those before it; the tallest is drawn first.
  const sums: number[][] = [];
  for (const { values } of lines) {
    const below = sums.at(-1);
    sums.push(values.map((value, index) => (value ?? 0) + (below?.[index] ?? 0)));
  }
  return [[...times], ...sums.reverse()];
}

function series(drawn: readonly [string, string, boolean?][], kind: ChartProps['kind']): uPlot.Series[] {
  const order = kind === 'stacked-bars' ? drawn.toReversed() : drawn;
  return order.map(([label, name, dashed]) => {
    const stroke = colour(name);
    if (kind === 'stacked-bars') {
      return { label, fill: stroke, width: 0, points: { show: false }, paths: bars };
    }
    return {
      label,
      stroke,
      width: 2,
      spanGaps: true,
      points: { show: false },
      ...(dashed ? { dash: [5, 4] } : {}),
      ...(kind === 'area' ? { fill: colour(`${name}-soft`) } : {}),
    };
  });
}

const bars = uPlot.paths.bars?.({ size: [0.8, 40], align: 1 }) as uPlot.Series.PathBuilder;

function axis(more: Partial<uPlot.Axis>): uPlot.Axis {
  return {
    stroke: colour('--muted'),
    font: '12px system-ui, sans-serif',
    grid: { stroke: colour('--line'), width: 1 },
    ticks: { show: false },
    ...more,
  };
}

function clock(seconds: number): string {
  return formatTime(seconds * 1000);
}

function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
