import type { StatusEvent } from './events.ts';

/** Lights on the wall; when there are more users, those who have been OFFLINE longest leave it. */
export const maxLights = 480;
export const maxRecent = 40;

export interface Wall {
  /** In the order in which they were first seen, so that each light keeps its place. */
  readonly lights: readonly StatusEvent[];
  /** Newest first. */
  readonly recent: readonly StatusEvent[];
}

export const emptyWall: Wall = { lights: [], recent: [] };

/** The wall after these events. Events that it knows already change nothing. */
export function addEvents(wall: Wall, events: readonly StatusEvent[]): Wall {
  const places = new Map(wall.lights.map((light, place) => [light.userId, place]));
  const lights: (StatusEvent | undefined)[] = [...wall.lights];
  const news: StatusEvent[] = [];
  for (const event of events) {
    const place = places.get(event.userId);
    if (place === undefined) {
      places.set(event.userId, lights.length);
      lights.push(event);
      news.push(event);
      continue;
    }
    const known = lights[place] as StatusEvent;
    if (BigInt(event.version) <= BigInt(known.version)) continue;
    lights[place] = event;
    news.push(event);
  }
  if (news.length === 0) return wall;
  const recent = [...news.reverse(), ...wall.recent].slice(0, maxRecent);
  return { lights: fit(lights as StatusEvent[]), recent };
}

function fit(lights: readonly StatusEvent[]): readonly StatusEvent[] {
  const surplus = lights.length - maxLights;
  if (surplus <= 0) return lights;
  const leaving = new Set(
    lights
      .toSorted((a, b) => rank(a) - rank(b) || Number(a.timestamp) - Number(b.timestamp))
      .slice(0, surplus),
  );
  return lights.filter((light) => !leaving.has(light));
}

function rank(light: StatusEvent): number {
  return light.status === 'ONLINE' ? 1 : 0;
}
