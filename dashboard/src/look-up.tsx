import { type FormEvent, useEffect, useState } from 'react';
import { Devices } from './devices.tsx';
import { activityName, causeName, type StatusEvent } from './events.ts';
import { formatAge, formatTime } from './format.ts';
import type { Link } from './live.ts';

export interface LookUpProps {
  readonly userId: string;
  readonly onLookUp: (userId: string) => void;
  readonly link: Link;
}

export function LookUp({ userId, onLookUp, link }: LookUpProps) {
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
      {/* A server that restarted is asked anew. */}
      {userId !== '' && <User key={`${userId} ${link === 'lost'}`} userId={userId} />}
      {userId === '' && <p className="muted">Type an id, or choose a light on the wall.</p>}
    </section>
  );
}

function User({ userId }: { readonly userId: string }) {
  const [events, setEvents] = useState<readonly StatusEvent[]>([]);
  const [problem, setProblem] = useState('');

  useEffect(() => {
    const source = new EventSource(`v1/events?watch=${encodeURIComponent(userId)}`);
    source.onmessage = ({ data }) => {
      const event = JSON.parse(data) as StatusEvent;
      setProblem('');
      setEvents((before) => (before[0]?.version === event.version ? before : [event, ...before].slice(0, 6)));
    };
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) setProblem('The server does not take this id.');
    };
    return () => source.close();
  }, [userId]);

  const [latest] = events;
  if (problem !== '') return <p role="alert">{problem}</p>;
  if (!latest) return <p className="muted">Asking…</p>;
  const isOnline = latest.status === 'ONLINE';
  return (
    <div className="user" aria-live="polite">
      <p className={`lamp ${isOnline ? 'lit' : 'unlit'}`}>
        <span className="bulb" aria-hidden="true" />
        <strong>{userId}</strong>
        <span data-testid="user-status">
          {isOnline ? `online, ${activityName(latest.activity)}` : 'offline'}
        </span>
      </p>
      <dl className="facts">
        <dt>Changed</dt>
        <dd>
          {latest.timestamp === '0'
            ? 'never seen'
            : `${formatTime(Number(latest.timestamp))}, ${causeName(latest.cause)}`}
        </dd>
        <dt>Last seen</dt>
        <dd>
          {latest.lastSeen === '0' ? (
            'never'
          ) : (
            <LastSeen atMs={Number(latest.lastSeen)} isOnline={isOnline} />
          )}
        </dd>
      </dl>
      <Devices userId={userId} />
      {events.length > 1 && <h3>Seen here</h3>}
      {events.length > 1 && (
        <ol className="recent">
          {events.slice(1).map((event) => (
            <li key={event.version}>
              <time>{formatTime(Number(event.timestamp))}</time>
              <span className={`dot ${event.status === 'ONLINE' ? 'lit' : 'unlit'}`} aria-hidden="true" />
              <span className="muted">
                {event.status === 'ONLINE' ? `online, ${activityName(event.activity)}` : 'offline'},{' '}
                {causeName(event.cause)}
              </span>
            </li>
          ))}
        </ol>
      )}
    </div>
  );
}

function LastSeen({ atMs, isOnline }: { readonly atMs: number; readonly isOnline: boolean }) {
  if (isOnline) return <>now</>;
  return (
    <>
      {formatTime(atMs)} ({formatAge(Date.now() - atMs)} ago)
    </>
  );
}
