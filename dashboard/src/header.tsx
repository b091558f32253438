import type { Stats } from '../../src/observe/stats.ts';
import type { Link } from './live.ts';
import type { Theme } from './theme.ts';

export interface HeaderProps {
  readonly link: Link;
  readonly stats: Stats | undefined;
  readonly theme: Theme;
  readonly onToggleTheme: () => void;
}

export function Header({ link, stats, theme, onToggleTheme }: HeaderProps) {
  const { tone, text } = health(link, stats);
  const other = theme === 'dark' ? 'light' : 'dark';
  return (
    <header>
      <h1>
        <Flame />
        Pilotlight
      </h1>
      <p className={`pill ${tone}`} role="status" data-link={link}>
        {text}
      </p>
      <button
        type="button"
        className="quiet"
        onClick={onToggleTheme}
        aria-label={`Change to the ${other} theme`}
      >
        {theme === 'dark' ? '☀' : '☾'}
      </button>
    </header>
  );
}

function health(link: Link, stats: Stats | undefined): { tone: 'good' | 'bad' | 'waiting'; text: string } {
  if (link === 'lost') return { tone: 'bad', text: 'Connection lost, coming back…' };
  if (link === 'connecting' || !stats) return { tone: 'waiting', text: 'Connecting…' };
  const sick = stats.nodes.filter((node) => node.notReady.length > 0);
  if (sick.length > 0) return { tone: 'bad', text: `Not ready: ${sick[0]?.notReady[0]}` };
  return { tone: 'good', text: 'Live' };
}

function Flame() {
  return (
    <svg viewBox="0 0 32 32" width="28" height="28" aria-hidden="true" className="flame">
      <path
        className="flame-outer"
        d="M17 2c1 5 8 9 8 17a9 9 0 0 1-18 0c0-4 2-7 5-9 0 3 1 4 3 5 1-4-1-8 2-13z"
      />
      <path className="flame-inner" d="M16 17c1 2 4 3 4 7a4 4 0 0 1-8 0c0-3 3-4 4-7z" />
    </svg>
  );
}
