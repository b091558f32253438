import type { UserState } from '@pilotlight/client';
import { usePresence } from '@pilotlight/client/react';
import { type FormEvent, useEffect, useState } from 'react';
import { Devices } from './devices.tsx';
import { formatAge, formatTime } from './format.ts';
import { namedActivity } from './session.ts';

export interface LookUpProps {
  readonly userId: string;
  readonly onLookUp: (userId: string) => void;
}

const maxSeen = 6;

export function LookUp({ userId, onLookUp }: LookUpProps) {
  const [typed, setTyped] = useState(userId);
  useEffect(() => setTyped(userId), [userId]);

  function submit(event: FormEvent): void {
    event.preventDefault();
    onLookUp(typed.trim());
  }

  return (
    <section className="card" aria-labelledby="look-up-title">
      <h2 id="look-up-title">Look up a user</h2>
      <form onSubmit={submit} className="look-up">
        <label htmlFor="user-id">User id</label>
        <input
          id="user-id"
          value={typed}
          onChange={(event) => setTyped(event.target.value)}
          autoComplete="off"
          spellCheck={false}
          maxLength={128}
        />
        <button type="submit">Look up</button>
      </form>
      {userId === '' ? (
        <p className="muted">Type an id, or choose a light on the wall.</p>
      ) : (
        <User key={userId} userId={userId} />
      )}
    </section>
  );
}

function User({ userId }: { readonly userId: string }) {
  const state = usePresence([userId]).get(userId);
  const seen = useSeen(state);
  if (!state) return <p className="muted">Asking…</p>;
  const isOnline = state.status === 'ONLINE';
  return (
    <div className="user">
      <p className={`lamp ${isOnline ? 'lit' : 'unlit'}`} aria-live="polite">
        <span className="bulb" aria-hidden="true" />
        <strong>{userId}</strong>
        <span data-testid="user-status">{describe(state)}</span>
      </p>
      {state.customStatus && (
        <p className="custom-status">
          {state.customStatus.emoji} {state.customStatus.text}
        </p>
      )}
      <dl className="facts">
        <dt>Last seen</dt>
        <dd>{lastSeen(state)}</dd>
      </dl>
      <Devices userId={userId} />
      {seen.length > 1 && (
        <>
          <h3>Seen here</h3>
          <ol className="recent">
            {seen.map(({ state: then, atMs }) => (
              <li key={`${then.version} ${atMs}`}>
                <time>{formatTime(atMs)}</time>
                <span className={`dot ${then.status === 'ONLINE' ? 'lit' : 'unlit'}`} aria-hidden="true" />
                <span className="muted">{describe(then)}</span>
              </li>
            ))}
          </ol>
        </>
      )}
    </div>
  );
}

/** The states that came while one looked, newest first. */
function useSeen(
  state: UserState | undefined,
): readonly { readonly state: UserState; readonly atMs: number }[] {
  const [seen, setSeen] = useState<readonly { readonly state: UserState; readonly atMs: number }[]>([]);
  useEffect(() => {
    if (!state) return;
    setSeen((before) =>
      before[0]?.state.version === state.version
        ? before
        : [{ state, atMs: Date.now() }, ...before].slice(0, maxSeen),
    );
  }, [state]);
  return seen;
}

function describe({ status, activity }: UserState): string {
  return status === 'ONLINE' ? `online, ${namedActivity(activity)}` : 'offline';
}

function lastSeen({ status, lastSeen: atMs }: UserState): string {
  if (status === 'ONLINE') return 'now';
  return atMs === 0 ? 'never' : `${formatTime(atMs)}, ${formatAge(Date.now() - atMs)} ago`;
}
