/** Charts as SVG text that needs nothing else: no script, no font, no style sheet. Readable on white and on black. */

export interface Line {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

export interface ChartOptions {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly lines: readonly Line[];
  /** Powers of ten at equal distances; default false. */
  readonly logX?: boolean;
  readonly logY?: boolean;
  /** Texts instead of numbers below the x axis: value, text. */
  readonly xTicks?: readonly (readonly [number, string])[];
}

const width = 720;
const height = 320;
const left = 64;
const right = 24;
const top = 40;
const bottom = 56;
/** Told apart also by those who do not see red and green (Okabe and Ito). */
const colours = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9'];
const ink = '#777';

export function lineChart(options: ChartOptions): string {
  const points = options.lines.flatMap(({ points }) => points);
  const x = scale(
    points.map(([value]) => value),
    left,
    width - right,
    options.logX ?? false,
  );
  const y = scale(
    [...points.map(([, value]) => value), ...(options.logY ? [] : [0])],
    height - bottom,
    top,
    options.logY ?? false,
  );
  const xTicks = options.xTicks ?? x.ticks.map((value) => [value, short(value)] as const);
  return svg(options.title, [
    ...y.ticks.map(
      (value) =>
        `<path d="M${left} ${y.at(value)}H${width - right}" stroke="${ink}" stroke-opacity=".25"/>${label(left - 8, y.at(value) + 4, short(value), 'end')}`,
    ),
    ...xTicks.map(([value, text]) => label(x.at(value), height - bottom + 18, text, 'middle')),
    label((left + width - right) / 2, height - 10, options.xLabel, 'middle'),
    `<text transform="translate(14 ${(top + height - bottom) / 2}) rotate(-90)" text-anchor="middle" fill="${ink}">${escapeText(options.yLabel)}</text>`,
    ...options.lines.map(({ points: line }, index) => {
      const path = line.map(([a, b], step) => `${step === 0 ? 'M' : 'L'}${x.at(a)} ${y.at(b)}`).join('');
      const dots = line.length <= 40 ? line.map(([a, b]) => dot(x.at(a), y.at(b), colourOf(index))) : [];
      return `<path d="${path}" fill="none" stroke="${colourOf(index)}" stroke-width="2"/>${dots.join('')}`;
    }),
    ...options.lines.map(({ name }, index) => legend(name, index)),
  ]);
}

export interface Bar {
  readonly name: string;
  readonly value: number;
  /** Beside the bar. */
  readonly text: string;
}

/** Horizontal bars on one linear scale from 0. */
export function barChart(title: string, bars: readonly Bar[]): string {
  const most = Math.max(...bars.map(({ value }) => value), Number.MIN_VALUE);
  const nameWidth = 200;
  const room = width - nameWidth - 130;
  const parts = bars.map(({ name, value, text }, index) => {
    const y = top + 8 + index * 30;
    const length = Math.max(1, (value / most) * room);
    return `${label(nameWidth - 8, y + 15, name, 'end')}<rect x="${nameWidth}" y="${y}" width="${round(length)}" height="20" fill="${colourOf(index)}"/>${label(nameWidth + length + 8, y + 15, text, 'start')}`;
  });
  return svg(title, parts, top + 16 + bars.length * 30);
}

function svg(title: string, parts: readonly string[], tall = height): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${tall}" width="${width}" height="${tall}" role="img" font-family="sans-serif" font-size="12"><title>${escapeText(title)}</title><text x="${left}" y="20" font-size="15" fill="${ink}">${escapeText(title)}</text>${parts.join('')}</svg>\n`;
}

const colourOf = (index: number): string => colours[index % colours.length] as string;
const round = (value: number): number => Math.round(value * 10) / 10;
const dot = (x: number, y: number, colour: string): string =>
  `<circle cx="${x}" cy="${y}" r="2.5" fill="${colour}"/>`;

function label(x: number, y: number, text: string, anchor: 'start' | 'middle' | 'end'): string {
  return `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}" fill="${ink}">${escapeText(text)}</text>`;
}

function legend(name: string, index: number): string {
  const y = top + 4 + index * 16;
  return `<rect x="${width - right - 150}" y="${y - 8}" width="10" height="10" fill="${colourOf(index)}"/>${label(width - right - 134, y + 1, name, 'start')}`;
}

export function escapeText(text: string): string {
  const names: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  return text.replace(/[&<>"]/g, (character) => names[character] as string);
}

interface Scale {
  at(value: number): number;
  readonly ticks: readonly number[];
}

function scale(values: readonly number[], from: number, to: number, isLog: boolean): Scale {
  const usable = isLog ? values.filter((value) => value > 0) : values;
  const least = usable.length > 0 ? Math.min(...usable) : isLog ? 1 : 0;
  const most = Math.max(...usable, least);
  if (isLog) {
    const low = Math.floor(Math.log10(least));
    const high = Math.max(low + 1, Math.ceil(Math.log10(most)));
    const ticks = Array.from({ length: high - low + 1 }, (_, step) => 10 ** (low + step));
    const at = (value: number): number =>
      round(from + ((Math.log10(Math.max(value, 10 ** low)) - low) / (high - low)) * (to - from));
    return { at, ticks };
  }
  const step = niceStep((most - least || 1) / 5);
  const low = Math.floor(least / step) * step;
  const high = Math.max(low + step, Math.ceil(most / step) * step);
  const ticks = Array.from({ length: Math.round((high - low) / step) + 1 }, (_, tick) => low + tick * step);
  return { at: (value) => round(from + ((value - low) / (high - low)) * (to - from)), ticks };
}

/** 1, 2 or 5 times a power of ten. */
function niceStep(wanted: number): number {
  const power = 10 ** Math.floor(Math.log10(wanted));
  const factor = [1, 2, 5, 10].find((it) => it * power >= wanted) ?? 10;
  return factor * power;
}

export function short(value: number): string {
  const size = Math.abs(value);
  if (size >= 1e6) return `${round(value / 1e6)}M`;
  if (size >= 1e4) return `${round(value / 1e3)}k`;
  if (size >= 100 || size === 0) return String(Math.round(value));
  return String(Number(value.toPrecision(3)));
}
