import { useEffect, useState } from 'react';
import { activityName } from './events.ts';
import { formatAge } from './format.ts';

/** Connection of the contract, in proto3 JSON. */
interface Connection {
  readonly connectionId: string;
  readonly kind: string;
  readonly device: string;
  readonly activity: string;
  readonly since: string;
}

/** Connections come and go without a transition, so they are asked for. */
const intervalMs = 2000;

/** What a user is connected with, on any node. */
export function Devices({ userId }: { readonly userId: string }) {
  const [connections, setConnections] = useState<readonly Connection[]>();

  useEffect(() => {
    const aborter = new AbortController();
    async function ask(): Promise<void> {
      try {
        const url = `v1/users/${encodeURIComponent(userId)}/connections`;
        const response = await fetch(url, { signal: aborter.signal });
        if (response.ok)
          setConnections(((await response.json()) as { connections: Connection[] }).connections);
      } catch {
        // The server is away, which the page's head says; the next round asks again.
      }
    }
    void ask();
    const timer = setInterval(() => void ask(), intervalMs);
    return () => {
      aborter.abort();
      clearInterval(timer);
    };
  }, [userId]);

  if (!connections) return null;
  return (
    <>
      <h3>Devices</h3>
      {connections.length === 0 && <p className="muted">No open connection.</p>}
      <ul className="devices" aria-label="Devices">
        {connections.map(({ connectionId, kind, device, activity, since }) => (
          <li key={connectionId}>
            <b>{device === '' ? kindName(kind) : device}</b>{' '}
            <span className="muted">
              {activity === 'ACTIVITY_UNSPECIFIED' ? '' : `${activityName(activity)}, `}for{' '}
              {formatAge(Date.now() - Number(since))}
            </span>
          </li>
        ))}
      </ul>
    </>
  );
}

function kindName(kind: string): string {
  return kind.replace(/^CONNECTION_KIND_/, '').toLowerCase();
}
