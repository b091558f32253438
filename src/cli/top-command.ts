import { setTimeout as sleep } from 'node:timers/promises';
import { styleText } from 'node:util';
import type { NodeReport, Quantiles, Sample, Stats } from '../observe/stats.ts';
import { type CommandContext, CommandError } from './client-commands.ts';
import { parsePrintable, printable } from './printable.ts';

export interface TopOptions {
  /** HTTP address of a server. */
  readonly url: string;
  /** One look, then the end. */
  readonly once: boolean;
  /** Columns of the terminal; undefined: it is no terminal. */
  readonly columns: number | undefined;
}

const intervalMs = 1000;
const timeoutMs = 3000;
const defaultColumns = 100;

const screen = {
  enter: '\u001b[?1049h\u001b[?25l',
  leave: '\u001b[?25h\u001b[?1049l',
  home: '\u001b[H',
  clearRest: '\u001b[J',
};

/** The system at a glance, once a second, until interrupted. */
export async function topCommand(context: CommandContext, options: TopOptions): Promise<void> {
  const first = await readStats(options.url, context);
  if (first === null)
    throw new CommandError(`no server answers at ${options.url}; start one with: pilotlight serve`);
  const frame = (stats: Stats) =>
    context.json
      ? printable(JSON.stringify(stats.sample))
      : topFrame(stats, options.columns ?? defaultColumns, context.colour).join('\n');
  if (options.once || context.json || options.columns === undefined) {
    context.print(frame(first));
    if (options.once) return;
  }
  const isScreen = options.columns !== undefined && !context.json;
  if (isScreen) context.print(screen.enter + screen.home + frame(first) + screen.clearRest);
  try {
    for (;;) {
      await sleep(intervalMs, undefined, { signal: context.signal });
      const stats = await readStats(options.url, context);
      const text = stats === null ? `${options.url} does not answer; trying again` : frame(stats);
      context.print(isScreen ? `${screen.home}${withCleanLines(text)}${screen.clearRest}` : text);
    }
  } catch (error) {
    if (!context.signal.aborted) throw error;
  } finally {
    if (isScreen) context.print(screen.leave);
  }
}

/** null: nobody answers. @throws CommandError: somebody else answers */
async function readStats(url: string, { signal, token }: CommandContext): Promise<Stats | null> {
  let response: Response;
  try {
    response = await fetch(new URL('/v1/stats', url), {
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
      signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
    });
  } catch (error) {
    if (signal.aborted) throw error;
    return null;
  }
  if (response.status === 401 || response.status === 403) {
    const refusal = await response.text();
    if (refusal.includes('ALLOWED_HOSTS')) throw new CommandError(`${url} refused: ${printable(refusal)}`);
    throw new CommandError(`${url} wants a token with presence:admin in PILOTLIGHT_TOKEN`);
  }
  const stats = response.ok ? (parsePrintable(await response.text()) as Partial<Stats>) : {};
  if (!stats.sample || !stats.nodes) throw new CommandError(`${url} is no Pilotlight server's HTTP address`);
  return stats as Stats;
}

/** What fits on one screen, line by line. */
export function topFrame(stats: Stats, columns: number, colour: boolean): string[] {
  const paint = (style: Parameters<typeof styleText>[0], text: string) =>
    colour ? styleText(style, text, { validateStream: false }) : text;
  const { sample, engine, nodes, history } = stats;
  const sick = nodes.filter((node) => node.notReady.length > 0);
  const state = sick.length === 0 ? paint('green', '● ready') : paint('red', `● ${sick[0]?.notReady[0]}`);
  const online = sample.online === null ? '?' : sample.online.toLocaleString('en');
  const graphColumns = Math.max(10, Math.min(columns - 40, 60));
  const causes = Object.entries(sample.transitions)
    .filter(([, count]) => count > 0)
    .map(([cause, count]) => `${printable(cause).toLowerCase().replace('_', ' ')} ${count}`);
  const lines = [
    `${paint(['bold', 'yellow'], 'Pilotlight')} ${stats.version}  ${state}  ${engine.kind} engine, ${nodes.length} node${nodes.length === 1 ? '' : 's'}`,
    '',
    `${'online'.padEnd(14)}${paint('bold', online.padStart(10))}  ${paint(
      'yellow',
      graph(history, graphColumns, (it) => it.online),
    )}`,
    `${'transitions/s'.padEnd(14)}${String(transitionsOf(sample)).padStart(10)}  ${paint('cyan', graph(history, graphColumns, transitionsOf))}`,
    `${''.padEnd(26)}${causes.join(', ') || '-'}`,
    `${'heartbeats/s'.padEnd(14)}${String(sample.heartbeats).padStart(10)}  p50 ${ms(sample.heartbeatMs, 'p50')}, p99 ${ms(sample.heartbeatMs, 'p99')}`,
    `${'fan-out'.padEnd(14)}${''.padStart(10)}  p50 ${ms(sample.fanOutMs, 'p50')}, p99 ${ms(sample.fanOutMs, 'p99')}`,
    `${engine.kind.padEnd(14)}${(engine.available ? 'up' : 'DOWN').padStart(10)}  ${engineLine(stats)}`,
    '',
    paint(
      'dim',
      nodeLine([
        'node',
        'state',
        'gRPC',
        'WS',
        'events',
        'watches',
        'beats/s',
        'feed p99',
        'loop',
        'sweeps',
        'MB',
      ]),
    ),
    ...nodes.map((node) => nodeLine(nodeCells(node))),
  ];
  // Colours are cut with care: escape codes have no width.
  return colour ? lines : lines.map((line) => line.slice(0, columns));
}

function engineLine({ engine }: Stats): string {
  const used = engine.usedBytes === null ? '?' : megabytes(engine.usedBytes);
  const memory = `${used}${engine.maxBytes === null ? '' : ` of ${megabytes(engine.maxBytes)}`} MB`;
  if (engine.kind === 'memory') return memory;
  return `${engine.commandsPerSecond} commands/s, p99 ${ms(engine.commandMs, 'p99')}, ${engine.errors} errors, ${memory}`;
}

function nodeCells(node: NodeReport): string[] {
  return [
    node.id.slice(0, 8),
    node.notReady.length === 0 ? 'ready' : 'not ready',
    String(node.connections.grpc),
    String(node.connections.websocket),
    String(node.connections.events),
    String(node.watchEdges),
    String(node.heartbeatsPerSecond),
    ms(node.feedLagMs, 'p99'),
    `${Math.round(node.eventLoopLagMs)} ms`,
    String(node.sweptPartitions),
    megabytes(node.memoryBytes),
  ];
}

const cellWidths = [9, 10, 7, 7, 7, 9, 9, 10, 8, 7, 6];

function nodeLine(cells: readonly string[]): string {
  return cells
    .map((cell, index) =>
      index < 2 ? cell.padEnd(cellWidths[index] as number) : cell.padStart(cellWidths[index] as number),
    )
    .join('');
}

const blocks = '▁▂▃▄▅▆▇█';

function graph(history: readonly Sample[], columns: number, read: (sample: Sample) => number | null): string {
  const values = history.slice(-columns).map(read);
  const most = Math.max(1, ...values.map((value) => value ?? 0));
  return values
    .map((value) => (value === null ? ' ' : blocks[Math.round((value / most) * (blocks.length - 1))]))
    .join('');
}

function transitionsOf({ transitions }: Sample): number {
  return Object.values(transitions).reduce((sum, count) => sum + count, 0);
}

function ms(quantiles: Quantiles, which: 'p50' | 'p99'): string {
  if (quantiles === null) return '-';
  const value = quantiles[which];
  return `${value >= 10 ? Math.round(value) : value.toFixed(2)} ms`;
}

function megabytes(bytes: number): string {
  return (bytes / 1024 / 1024).toFixed(0);
}

/** Each line clears what an earlier, longer one left. */
function withCleanLines(text: string): string {
  return `${text.replaceAll('\n', '\u001b[K\n')}\u001b[K`;
}
