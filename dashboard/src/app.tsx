import { usePresenceClient } from '@pilotlight/client/react';
import { useState } from 'react';
import { EngineCard } from './engine-card.tsx';
import { Header } from './header.tsx';
import { useLive } from './live.ts';
import { LookUp } from './look-up.tsx';
import { Nodes } from './nodes.tsx';
import { Overview } from './overview.tsx';
import { useTheme } from './theme.ts';
import { Wall } from './wall.tsx';

export function App() {
  const { link, stats, wall } = useLive(usePresenceClient());
  const { theme, toggle } = useTheme();
  const [userId, setUserId] = useState(() => new URLSearchParams(location.search).get('user') ?? '');

  function lookUp(id: string): void {
    setUserId(id);
    history.replaceState(null, '', id === '' ? location.pathname : `?user=${encodeURIComponent(id)}`);
  }

  return (
    <>
      <Header link={link} stats={stats} theme={theme} onToggleTheme={toggle} />
      <main>
        {stats ? (
          <Overview stats={stats} theme={theme} />
        ) : (
          <p className="waiting">Waiting for the server…</p>
        )}
        <div className="columns">
          <Wall wall={wall} selected={userId} onSelect={lookUp} />
          <div className="stack">
            <LookUp userId={userId} onLookUp={lookUp} />
            {stats && <EngineCard engine={stats.engine} />}
          </div>
        </div>
        {stats && <Nodes stats={stats} />}
      </main>
      <footer>
        <span>Pilotlight {stats?.version}</span>
        <nav aria-label="Machine-readable">
          <a href="metrics">Metrics</a>
          <a href="openapi.json">OpenAPI</a>
          <a href="v1/stats">Stats</a>
          <a href="readyz">Readiness</a>
        </nav>
      </footer>
    </>
  );
}
