import { type KeyboardEvent, useRef, useState } from 'react';
import { causeName, type StatusEvent } from './events.ts';
import { formatCount, formatTime } from './format.ts';
import type { Light, Wall as WallModel } from './wall-model.ts';

export interface WallProps {
  readonly wall: WallModel;
  readonly selected: string;
  readonly onSelect: (userId: string) => void;
}

/** One window for each user seen lately, lit while they are online. */
export function Wall({ wall, selected, onSelect }: WallProps) {
  const [pointed, setPointed] = useState('');
  const [current, setCurrent] = useState(0);
  const windows = useRef<HTMLUListElement>(null);
  const { lights, recent } = wall;
  const lit = lights.filter(({ isOnline }) => isOnline).length;
  const shown = lights.find(({ userId }) => userId === pointed);

  /** One stop of the Tab key for all windows; the arrow keys walk among them. */
  function walk(event: KeyboardEvent): void {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const next = Math.min(Math.max(current + step, 0), lights.length - 1);
    setCurrent(next);
    windows.current?.querySelectorAll('button')[next]?.focus();
  }

  return (
    <section className="card wide" aria-labelledby="wall-title">
      <div className="title-row">
        <h2 id="wall-title">Live wall</h2>
        <p className="muted">
          {lights.length === 0
            ? 'nobody has come or gone since the server started'
            : `${formatCount(lit)} of ${formatCount(lights.length)} lit; users who came or went lately`}
        </p>
      </div>
      {lights.length === 0 ? (
        <p className="empty">
          Set somebody online, or run <code>pilotlight demo</code>, and lights appear here.
        </p>
      ) : (
        <ul className="windows" ref={windows} onKeyDown={walk} onPointerLeave={() => setPointed('')}>
          {lights.map((light, place) => (
            <li key={light.userId}>
              <button
                // A light that changed is a new element, so that its flash plays.
                key={light.version}
                type="button"
                className={`window ${light.isOnline ? light.activity.replaceAll(' ', '-') : 'off'}`}
                aria-label={describe(light)}
                aria-pressed={light.userId === selected}
                tabIndex={place === Math.min(current, lights.length - 1) ? 0 : -1}
                data-user={light.userId}
                onClick={() => onSelect(light.userId)}
                onFocus={() => {
                  setCurrent(place);
                  setPointed(light.userId);
                }}
                onPointerEnter={() => setPointed(light.userId)}
              />
            </li>
          ))}
        </ul>
      )}
      {lights.length > 0 && <Legend />}
      <p className="pointed" aria-hidden="true">
        {shown ? describe(shown) : lights.length > 0 ? 'Point at a light to see whose it is.' : ''}
      </p>
      <Recent events={recent} onSelect={onSelect} />
    </section>
  );
}

function Legend() {
  return (
    <ul className="wall-legend" aria-label="What the lights mean">
      <li>
        <span className="window active" aria-hidden="true" /> online
      </li>
      <li>
        <span className="window idle" aria-hidden="true" /> idle or away
      </li>
      <li>
        <span className="window do-not-disturb" aria-hidden="true" /> do not disturb
      </li>
      <li>
        <span className="window off" aria-hidden="true" /> offline
      </li>
    </ul>
  );
}

function Recent({
  events,
  onSelect,
}: {
  readonly events: readonly StatusEvent[];
  readonly onSelect: (id: string) => void;
}) {
  if (events.length === 0) return null;
  return (
    <>
      <h3>Lately</h3>
      <ol className="recent">
        {events.slice(0, 8).map((event) => (
          <li key={`${event.userId} ${event.version}`}>
            <time>{formatTime(Number(event.timestamp))}</time>
            <span className={`dot ${event.status === 'ONLINE' ? 'lit' : 'unlit'}`} aria-hidden="true" />
            <button type="button" className="link" onClick={() => onSelect(event.userId)}>
              {event.userId}
            </button>
            <span className="muted">
              {event.status === 'ONLINE' ? 'on' : 'off'}, {causeName(event.cause)}
            </span>
          </li>
        ))}
      </ol>
    </>
  );
}

/** One sentence for those who do not see the light. */
function describe({ userId, isOnline, activity }: Light): string {
  return isOnline ? `${userId}: online, ${activity}` : `${userId}: offline`;
}
