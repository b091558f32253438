import type { PresenceClient } from '@pilotlight/client';
import { useEffect, useState } from 'react';
import type { Sample, Stats, Tick } from '../../src/observe/stats.ts';
import type { StatusEvent } from './events.ts';
import { GrowingWatch } from './session.ts';
import { addEvents, addStates, emptyWall, maxLights, type Wall } from './wall-model.ts';

export type Link = 'connecting' | 'live' | 'lost';

export interface Live {
  readonly link: Link;
  /** undefined until the server has told. */
  readonly stats: Stats | undefined;
  readonly wall: Wall;
}

const keptSamples = 600;
const retryMs = 1000;
/** Without a tick for so long the link is lost, whatever the socket says. */
const silenceMs = 5000;

/**
 * The server's own view of itself, kept up to date for as long as the page is open. Which users there are is told by the
 * transitions; how they are, by the session that watches them.
 */
export function useLive(client: PresenceClient): Live {
  const [link, setLink] = useState<Link>('connecting');
  const [stats, setStats] = useState<Stats>();
  const [wall, setWall] = useState<Wall>(emptyWall);

  useEffect(() => {
    let source: EventSource;
    let retryTimer: ReturnType<typeof setTimeout> | undefined;
    let heardMs = performance.now();
    const watch = new GrowingWatch(client, (states) => setWall((before) => addStates(before, states)));

    function open(): void {
      source = new EventSource('v1/stats/live');
      source.addEventListener('stats', (event) => {
        heard();
        setStats(JSON.parse(event.data) as Stats);
      });
      source.addEventListener('tick', (event) => {
        heard();
        const tick = JSON.parse(event.data) as Tick;
        setStats((before) => before && { ...before, ...tick, history: append(before.history, tick.sample) });
      });
      source.addEventListener('transitions', (event) => {
        const events = JSON.parse(event.data) as StatusEvent[];
        setWall((before) => addEvents(before, events));
        watch.add(events.slice(-maxLights).map(({ userId }) => userId));
      });
      source.onerror = () => {
        setLink('lost');
        // A server that answers something else, as a proxy in front of it does, ends an EventSource for good.
        if (source.readyState === EventSource.CLOSED) retryLater();
      };
    }

    function heard(): void {
      heardMs = performance.now();
      setLink('live');
    }

    function retryLater(): void {
      source.close();
      clearTimeout(retryTimer);
      retryTimer = setTimeout(open, retryMs);
    }

    const silenceTimer = setInterval(() => {
      if (performance.now() - heardMs < silenceMs) return;
      heardMs = performance.now();
      setLink('lost');
      retryLater();
    }, 1000);

    open();
    return () => {
      source.close();
      clearTimeout(retryTimer);
      clearInterval(silenceTimer);
    };
  }, [client]);

  return { link, stats, wall };
}

function append(history: readonly Sample[], sample: Sample): readonly Sample[] {
  return [...history, sample].slice(-keptSamples);
}
