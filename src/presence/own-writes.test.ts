/** A write is seen by every later read on the node that made it, whatever was written, however late the feed is. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { contractPartitions, contractPolicy } from '../../test/store-harness.ts';
import { RedisServer } from '../../test/support/redis-server.ts';
import { startStore } from '../../test/support/redis-store.ts';
import type { UserState } from '../core/presence.ts';
import type { PresenceStore } from '../core/store.ts';
import { silentLog } from '../observe/log.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { Connections, type HeldConnection } from './connections.ts';
import { PresenceService } from './presence-service.ts';
import { WatchHub } from './watch-hub.ts';

const policy = { ...contractPolicy, ttlMs: 60_000, disconnectGraceMs: 0, lastSeenTtlMs: 600_000 };
const viewer = { userId: 'vic', seesAll: false };
const customStatus = { text: 'at lunch', emoji: '', lifeMs: 0 };
const nothingHidden = { invisible: null, lastSeen: null, addBlocked: [], removeBlocked: [] };

class Node {
  readonly hub: WatchHub;
  readonly connections: Connections;
  readonly presence: PresenceService;
  readonly #store: PresenceStore;

  constructor(store: PresenceStore) {
    const shared = { ...policy, store, log: silentLog, partitions: contractPartitions };
    this.#store = store;
    this.hub = new WatchHub({ ...shared, maxWatchedUsers: 10 });
    this.connections = new Connections(shared);
    const limits = { maxBulkUsers: 10, maxWatchedUsers: 10, maxBlockedUsers: 10 };
    const { hub, connections } = this;
    const service = new PresenceService({ ...shared, ...limits, hub, connections, heartbeatIntervalMs: 100 });
    this.presence = service.as(viewer);
  }

  async open(userId: string): Promise<HeldConnection> {
    return (await this.connections.open(userId, 'session', '', 'AWAY', null, () => {})).held;
  }

  /** From now on nothing comes but what this node is told of its own writes. */
  cutFeed(): void {
    const written = (userId: string, version: number) => this.hub.written(userId, version);
    const silent = { transitions: () => {}, privacyChanged: () => {}, lost: () => {} };
    this.#store.onFeed({ written, ...silent });
  }

  async snapshot(userId: string): Promise<UserState | undefined> {
    let first: UserState | undefined;
    const send = ({ state }: { state: UserState }) => {
      first ??= state;
      return true;
    };
    const subscription = this.hub.subscribe({ send }, viewer);
    await subscription.watch([userId]);
    subscription.close();
    return first;
  }
}

interface Write {
  readonly name: string;
  prepare?(node: Node, userId: string): Promise<unknown>;
  make(node: Node, userId: string): Promise<unknown>;
  expect(state: UserState): boolean;
}

/** Connections that `prepare` opened, by user. */
const opened = new Map<string, HeldConnection>();
const open = async (node: Node, userId: string) => opened.set(userId, await node.open(userId));
const online = (node: Node, userId: string) => node.presence.setStatus(userId, 'ONLINE', null);
const offline = (node: Node, userId: string) => node.presence.setStatus(userId, 'OFFLINE', null);
const isOnline = ({ status }: UserState) => status === 'ONLINE';
const isOffline = ({ status }: UserState) => status === 'OFFLINE';

const writes: readonly Write[] = [
  { name: 'SetUserStatus(ONLINE)', make: online, expect: isOnline },
  { name: 'SetUserStatus(OFFLINE)', prepare: online, make: offline, expect: isOffline },
  {
    name: 'SetUserStatus with an activity',
    prepare: online,
    make: (node, userId) => node.presence.setStatus(userId, 'ONLINE', 'DO_NOT_DISTURB'),
    expect: ({ activity }) => activity === 'DO_NOT_DISTURB',
  },
  {
    name: 'a heartbeat that sets online',
    make: (node, userId) => node.presence.heartbeat(userId),
    expect: isOnline,
  },
  {
    name: 'a custom status',
    make: (node, userId) => node.presence.setCustomStatus(userId, customStatus),
    expect: (state) => state.customStatus?.text === 'at lunch',
  },
  { name: 'a session that opens', make: open, expect: ({ activity }) => activity === 'AWAY' },
  {
    name: "a session's activity",
    prepare: open,
    make: (node, userId) => node.connections.setActivity(opened.get(userId) as HeldConnection, 'IDLE'),
    expect: ({ activity }) => activity === 'IDLE',
  },
  {
    name: 'the last session that closes',
    prepare: open,
    make: (node, userId) => node.connections.close(opened.get(userId) as HeldConnection, true),
    expect: isOffline,
  },
  {
    name: 'one of two sessions that closes',
    prepare: async (node, userId) => {
      const other = await node.open(userId);
      await open(node, userId);
      await node.connections.setActivity(opened.get(userId) as HeldConnection, 'ACTIVE');
      return other;
    },
    make: (node, userId) => node.connections.close(opened.get(userId) as HeldConnection, true),
    expect: ({ activity }) => activity === 'AWAY',
  },
  {
    name: 'SetPrivacy',
    prepare: online,
    make: (node, userId) => node.presence.setPrivacy(userId, { ...nothingHidden, invisible: true }),
    expect: isOffline,
  },
];

function testOwnWrites(name: string, start: () => Promise<{ node: Node; stop(): Promise<void> }>): void {
  describe(`own writes: ${name}`, () => {
    let node: Node;
    let stop: () => Promise<void>;
    before(async () => {
      ({ node, stop } = await start());
    });
    after(() => stop());

    for (const [index, { name, prepare, make, expect }] of writes.entries()) {
      it(`${name} is seen by every later read`, async () => {
        const users = ['asked', 'listed', 'watched'].map((how) => `${how}-${index}`);
        const [asked, listed, watched] = users as [string, string, string];
        for (const userId of users) await prepare?.(node, userId);
        const subscription = node.hub.subscribe({ send: () => true }, viewer);
        await subscription.watch(users);
        node.cutFeed();
        for (const userId of users) await make(node, userId);
        const read = {
          one: await node.presence.getStatus(asked),
          many: (await node.presence.getStatuses(['nobody', listed]))[1],
          snapshot: await node.snapshot(watched),
        };
        for (const [how, state] of Object.entries(read)) {
          assert.ok(state && expect(state), `${how}: ${JSON.stringify(state)}`);
        }
        subscription.close();
        node.connections.stop();
      });
    }

    it('connections are those of now', async () => {
      const held = await node.open('connected');
      const ids = async () =>
        (await node.presence.getConnections('connected')).map(({ connectionId }) => connectionId);
      assert.deepEqual(await ids(), [held.id]);
      await node.connections.close(held, true);
      assert.deepEqual(await ids(), []);
    });
  });
}

testOwnWrites('memory', async () => {
  const clock = { nowMs: Date.now };
  const store = new MemoryStore({ ...policy, partitions: contractPartitions, clock });
  const node = new Node(store);
  // This engine's feed is never late: it is no message.
  node.cutFeed = () => {};
  await store.start();
  return { node, stop: () => store.stop() };
});

testOwnWrites('Redis', async () => {
  const redis = await RedisServer.start();
  const store = await startStore(redis, policy);
  const stop = async () => {
    await store.stop();
    await redis.stop();
  };
  return { node: new Node(store), stop };
});
