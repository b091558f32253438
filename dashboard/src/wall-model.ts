import { activityName, type StatusEvent } from './events.ts';

/** Lights on the wall; when there are more users, those who have been OFFLINE longest leave it. */
export const maxLights = 480;
export const maxRecent = 40;

/** One user on the wall. */
export interface Light {
  readonly userId: string;
  readonly isOnline: boolean;
  /** `active`, `idle` ...; empty while OFFLINE. */
  readonly activity: string;
  readonly version: number;
}

export interface Wall {
  /** In the order in which they were first seen, so that each light keeps its place. */
  readonly lights: readonly Light[];
  /** Transitions, newest first. */
  readonly recent: readonly StatusEvent[];
}

export const emptyWall: Wall = { lights: [], recent: [] };

/** The wall after these transitions, which may be of users not seen before. Those known already change nothing. */
export function addEvents(wall: Wall, events: readonly StatusEvent[]): Wall {
  const newest = wall.recent[0] ? Number(wall.recent[0].version) : 0;
  const known = new Set(wall.recent.map(({ userId, version }) => `${version} ${userId}`));
  const oldest = Number(wall.recent.at(-1)?.version ?? 0);
  const news = events.filter(
    ({ userId, version }) =>
      Number(version) > newest || (Number(version) > oldest && !known.has(`${version} ${userId}`)),
  );
  const lights = addLights(
    wall.lights,
    events.map((event) => ({
      userId: event.userId,
      isOnline: event.status === 'ONLINE',
      activity: event.status === 'ONLINE' ? activityName(event.activity) : '',
      version: Number(event.version),
    })),
  );
  if (news.length === 0 && lights === wall.lights) return wall;
  return { lights, recent: [...news.reverse(), ...wall.recent].slice(0, maxRecent) };
}

/** The wall after these states of the session. Version 0: the engine knows nothing of the user any more. */
export function addStates(wall: Wall, states: readonly Light[]): Wall {
  const seen = new Set(wall.lights.map(({ userId }) => userId));
  const lights = addLights(
    wall.lights,
    states.filter(({ userId }) => seen.has(userId)),
  );
  return lights === wall.lights ? wall : { ...wall, lights };
}

function addLights(lights: readonly Light[], news: readonly Light[]): readonly Light[] {
  const places = new Map(lights.map(({ userId }, place) => [userId, place]));
  const changed = [...lights];
  let isChanged = false;
  for (const light of news) {
    const place = places.get(light.userId);
    const known = place === undefined ? undefined : (changed[place] as Light);
    if (known && light.version <= known.version && light.version !== 0) continue;
    if (known && light.isOnline === known.isOnline && light.activity === known.activity) continue;
    isChanged = true;
    if (place === undefined) {
      places.set(light.userId, changed.length);
      changed.push(light);
    } else {
      changed[place] = light;
    }
  }
  return isChanged ? fit(changed) : lights;
}

function fit(lights: readonly Light[]): readonly Light[] {
  const surplus = lights.length - maxLights;
  if (surplus <= 0) return lights;
  const leaving = new Set(
    lights
      .toSorted((a, b) => Number(a.isOnline) - Number(b.isOnline) || a.version - b.version)
      .slice(0, surplus),
  );
  return lights.filter((light) => !leaving.has(light));
}
