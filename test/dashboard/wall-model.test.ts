import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { StatusEvent } from '../../dashboard/src/events.ts';
import {
  addEvents,
  addStates,
  emptyWall,
  maxLights,
  maxRecent,
  type Wall,
} from '../../dashboard/src/wall-model.ts';

function event(userId: string, status: 'ONLINE' | 'OFFLINE', version: number): StatusEvent {
  const activity = status === 'ONLINE' ? 'ACTIVITY_ACTIVE' : 'ACTIVITY_UNSPECIFIED';
  const times = { timestamp: String(version), lastSeen: '0', version: String(version) };
  return { userId, status, activity, cause: 'CAUSE_SET', ...times };
}

const lit = (wall: Wall) => wall.lights.filter(({ isOnline }) => isOnline).map(({ userId }) => userId);

describe('wall', () => {
  it('gives each user a place, and keeps it', () => {
    let wall = addEvents(emptyWall, [event('ada', 'ONLINE', 1), event('bob', 'ONLINE', 2)]);
    wall = addEvents(wall, [event('ada', 'OFFLINE', 3)]);
    assert.deepEqual(
      wall.lights.map(({ userId, isOnline }) => [userId, isOnline]),
      [
        ['ada', false],
        ['bob', true],
      ],
    );
    assert.deepEqual(
      wall.recent.map(({ version }) => version),
      ['3', '2', '1'],
    );
  });

  it('is the same object when it is told what it knows', () => {
    const wall = addEvents(emptyWall, [event('ada', 'ONLINE', 1), event('ada', 'OFFLINE', 2)]);
    assert.equal(addEvents(wall, [event('ada', 'ONLINE', 1), event('ada', 'OFFLINE', 2)]), wall);
    assert.deepEqual(lit(wall), []);
  });

  it('believes the session, and still tells of the transition that comes after it', () => {
    let wall = addEvents(emptyWall, [event('ada', 'ONLINE', 1)]);
    wall = addStates(wall, [{ userId: 'ada', isOnline: false, activity: '', version: 2 }]);
    assert.deepEqual(lit(wall), []);
    wall = addEvents(wall, [event('ada', 'OFFLINE', 2)]);
    assert.equal(wall.recent.length, 2);
  });

  it('puts out whom the engine forgot, and adds nobody whom only the session knows', () => {
    let wall = addEvents(emptyWall, [event('ada', 'ONLINE', 5)]);
    wall = addStates(wall, [
      { userId: 'ada', isOnline: false, activity: '', version: 0 },
      { userId: 'eve', isOnline: true, activity: 'active', version: 9 },
    ]);
    assert.deepEqual(lit(wall), []);
    assert.equal(wall.lights.length, 1);
  });

  it('is bounded: those OFFLINE longest leave', () => {
    const events = Array.from({ length: maxLights + 2 }, (_, index) =>
      event(`u${index}`, index < 5 ? 'OFFLINE' : 'ONLINE', index + 1),
    );
    const wall = addEvents(emptyWall, events);
    assert.equal(wall.lights.length, maxLights);
    assert.equal(wall.lights[0]?.userId, 'u2');
    assert.equal(wall.recent.length, maxRecent);
  });
});
