/**
 * One hostile user with a valid token: does the most that the limits allow in one of the ways below, until killed. A process
 * of its own, so that its work holds up nobody who measures. argv: name of the way, JSON of HostileTarget.
 */
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { PresenceService, UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { WebSocket } from 'ws';

export interface HostileTarget {
  readonly grpcUrl: string;
  readonly httpUrl: string;
  readonly user: string;
  readonly token: string;
}

/** What the process was answered so far; sent to its parent twice a second. */
export interface HostileReport {
  readonly done: number;
  readonly refused: number;
}

interface Way {
  readonly title: string;
  /** The server needs a user directory and a watch policy, which answer slowly. */
  readonly asksOutside?: boolean;
  readonly run: (hostile: Hostile) => Promise<void>;
}

/** A little more than the limits let pass: what is beyond is refused, and costs too. */
const eagerness = 1.2;
const calls = 100 * eagerness;
const updates = 20 * eagerness;
const opens = 20 * eagerness;
const users = 5000;
const sessionsOfUser = 20;
const watchersOfHostile = 500;

export const hostileWays: Readonly<Record<string, Way>> = {
  bulk: {
    title: 'bulk queries of 5,000 other users',
    run: async (it) =>
      it.often(2, () => it.client.getMultipleUserStatus({ userIds: it.someUsers(users) }, it.call)),
  },
  duplicates: {
    title: 'bulk queries of oneself 5,000 times, 1,000 blocked, between changes of privacy',
    run: async (it) => {
      await it.blockMany();
      const userIds = Array.from({ length: users }, () => it.user);
      it.often(4 * eagerness, () => it.flipPrivacy());
      it.often(2, () => it.client.getMultipleUserStatus({ userIds }, it.call));
    },
  },
  privacy: {
    title: 'changes of privacy with 1,000 blocked, read back each time',
    run: async (it) => {
      await it.blockMany();
      it.often(4 * eagerness, () => it.flipPrivacy());
      it.often(calls / 2, () => it.client.getPrivacy({ userId: it.user }, it.call));
      it.often(calls / 2, () => it.client.getUserStatus({ userId: it.user }, it.call));
    },
  },
  customStatus: {
    title: 'custom statuses of the longest text, four deep, read back',
    run: async (it) => {
      const session = await it.session(it.user);
      let round = 0;
      it.often(updates, () =>
        session.tell({
          setCustomStatus: {
            text: '😀'.repeat(140),
            emoji: '😀',
            expiresInMs: String((4 - (round++ % 4)) * 1_000_000),
          },
        }),
      );
      it.often(calls, () => it.client.getUserStatus({ userId: it.user }, it.call));
    },
  },
  streams: {
    title: 'subscriptions of 250 users opened without end, never closed',
    run: async (it) => {
      it.often(opens / 2, () => it.stream(it.user, it.someUsers(250)));
      it.often(opens / 2, () => it.stream('', it.someUsers(250)));
    },
  },
  watchEdits: {
    title: 'watch lists that grow by 5,000 users a second',
    run: async (it) => {
      const sessions = await it.sessions(sessionsOfUser);
      let next = 0;
      it.often(10, () => {
        const session = sessions[next++ % sessions.length];
        session?.tell({ watch: { userIds: it.someUsers(600) } });
      });
    },
  },
  unwatch: {
    title: 'unwatches of 8,000 users in every frame of every session',
    run: async (it) => {
      const sessions = await it.sessions(sessionsOfUser);
      const frame = { unwatch: { userIds: it.someUsers(8000) } };
      const text = JSON.stringify({ requestId: 1, ...frame });
      for (const session of sessions) it.often(45, () => session.write(text));
    },
  },
  frames: {
    title: 'the largest frames, of every kind, in every session',
    run: async (it) => {
      const sessions = await it.sessions(sessionsOfUser);
      const userIds = it.someUsers(8000);
      const texts = ['watch', 'query', 'unwatch'].map((kind) =>
        JSON.stringify({ requestId: 1, [kind]: { userIds } }),
      );
      let next = 0;
      for (const session of sessions)
        it.often(45, () => session.write(texts[next++ % texts.length] as string));
    },
  },
  connects: {
    title: 'sessions opened and closed',
    run: async (it) => {
      it.often(opens, async () => {
        const session = await it.session(it.user);
        session.close();
      });
    },
  },
  queries: {
    title: 'queries in 20 sessions',
    run: async (it) => {
      const sessions = await it.sessions(sessionsOfUser);
      let next = 0;
      it.often(calls, () => {
        const session = sessions[next++ % sessions.length];
        session?.tell({ query: { userIds: it.someUsers(50) } });
      });
    },
  },
  connections: {
    title: 'GetConnections with 20 sessions and 20 subscriptions, changing activity',
    run: async (it) => {
      const sessions = await it.sessions(sessionsOfUser);
      for (let i = 0; i < 20; i++) it.stream(it.user, it.someUsers(2));
      it.often(calls, () => it.client.getConnections({ userId: it.user }, it.call));
      let next = 0;
      it.often(updates, () => {
        const session = sessions[next % sessions.length];
        session?.tell({ setStatus: { activity: 1 + (next++ % 4) } });
      });
    },
  },
  flips: {
    title: 'ONLINE and OFFLINE in turn, watched by 500',
    run: async (it) => {
      let isOnline = false;
      it.often(updates, () => {
        isOnline = !isOnline;
        const status = isOnline ? UserStatus.ONLINE : UserStatus.OFFLINE;
        return it.client.setUserStatus({ userId: it.user, status }, it.call);
      });
    },
  },
  directoryMisses: {
    title: 'queries of users whom the directory was never asked about',
    asksOutside: true,
    run: async (it) =>
      it.often(calls, () => it.client.getMultipleUserStatus({ userIds: it.newUsers(50, 'self') }, it.call)),
  },
  policyMisses: {
    title: 'watches of users whom the watch policy was never asked about',
    asksOutside: true,
    run: async (it) => {
      const [session] = await it.sessions(1);
      it.often(10, () => session?.tell({ watch: { userIds: it.newUsers(500, 'w') } }));
      it.often(calls / 2, () => it.client.getMultipleUserStatus({ userIds: it.newUsers(50, 'q') }, it.call));
    },
  },
};

interface HostileSession {
  tell(frame: object): void;
  write(text: string): void;
  close(): void;
}

class Hostile {
  readonly user: string;
  readonly call: { readonly headers: Record<string, string> };
  readonly client;
  readonly report = { done: 0, refused: 0 };
  readonly #target: HostileTarget;
  #next = 0;

  constructor(target: HostileTarget) {
    this.#target = target;
    this.user = target.user;
    this.call = { headers: { authorization: `Bearer ${target.token}` } };
    this.client = createClient(PresenceService, createGrpcTransport({ baseUrl: target.grpcUrl }));
  }

  /** So many times a second, whatever becomes of each. */
  often(perSecond: number, act: () => unknown): void {
    const beganMs = performance.now();
    let acted = 0;
    setInterval(() => {
      const due = ((performance.now() - beganMs) / 1000) * perSecond;
      // What could not be done in time is not made up for at once.
      for (acted = Math.max(acted, Math.floor(due) - 20); acted < due; acted++) {
        const answer = act();
        if (!(answer instanceof Promise)) continue;
        answer.then(
          () => this.report.done++,
          () => this.report.refused++,
        );
      }
    }, 10);
  }

  someUsers(count: number): string[] {
    return Array.from({ length: count }, () => `user-${this.#next++ % 20_000}`);
  }

  newUsers(count: number, prefix: string): string[] {
    return Array.from({ length: count }, () => `${prefix}-${this.#next++}`);
  }

  async blockMany(): Promise<void> {
    const addBlocked = Array.from({ length: 1000 }, (_, index) => `${index}`.padStart(128, 'x'));
    await this.client.setPrivacy({ userId: this.user, addBlocked }, this.call);
    await this.client.setUserStatus({ userId: this.user, status: UserStatus.ONLINE }, this.call);
  }

  flipPrivacy(): Promise<unknown> {
    const invisible = this.#next++ % 2 === 0;
    return this.client.setPrivacy({ userId: this.user, invisible }, this.call);
  }

  stream(userId: string, watchUserIds: readonly string[]): void {
    void (async () => {
      try {
        const request = { userId, watchUserIds: [...watchUserIds] };
        const events = this.client.subscribeStatusUpdates(request, this.call)[Symbol.asyncIterator]();
        await events.next();
        this.report.done++;
        for (let next = await events.next(); !next.done; ) next = await events.next();
      } catch {
        this.report.refused++;
      }
    })();
  }

  async sessions(count: number): Promise<HostileSession[]> {
    const sessions: HostileSession[] = [];
    for (let i = 0; i < count; i++) sessions.push(await this.session(this.user));
    return sessions;
  }

  async session(userId: string): Promise<HostileSession> {
    const url = `${this.#target.httpUrl.replace('http', 'ws')}/v1/connect`;
    const socket = new WebSocket(url, ['presence.v1.json'], this.call);
    const { report } = this;
    const write = (text: string) => {
      // What the server does not take is not gathered here.
      if (socket.readyState === socket.OPEN && socket.bufferedAmount < 2_000_000) socket.send(text);
    };
    const opened = Promise.withResolvers<HostileSession>();
    const session = {
      write,
      tell: (frame: object) => write(JSON.stringify({ requestId: 1, ...frame })),
      close: () => socket.close(),
    };
    socket.on('open', () => session.tell({ hello: { userId, device: 'd'.repeat(64) } }));
    socket.on('message', (data: Buffer) => {
      const text = data.toString('latin1', 0, 40);
      if (text.includes('"error"')) report.refused++;
      else report.done++;
      if (text.includes('welcome')) opened.resolve(session);
    });
    socket.on('close', (code) => opened.reject(new Error(`closed with ${code}`)));
    socket.on('error', () => {});
    opened.promise.catch(() => {});
    return opened.promise;
  }
}

/** Watchers of the hostile user, who did nothing wrong. */
async function crowd({ grpcUrl, token }: HostileTarget, user: string): Promise<void> {
  const client = createClient(PresenceService, createGrpcTransport({ baseUrl: grpcUrl }));
  const headers = { authorization: `Bearer ${token}` };
  let begun = 0;
  for (let i = 0; i < watchersOfHostile; i++) {
    void (async () => {
      for await (const { snapshot } of client.subscribeStatusUpdates({ watchUserIds: [user] }, { headers }))
        if (snapshot && ++begun === watchersOfHostile) process.send?.('begun');
    })();
  }
}

if (process.send) {
  const [name = '', target = ''] = process.argv.slice(2);
  const known = JSON.parse(target) as HostileTarget;
  if (name === 'crowd') await crowd(known, known.user);
  else {
    const hostile = new Hostile(known);
    await hostileWays[name]?.run(hostile);
    setInterval(() => process.send?.(hostile.report), 100);
  }
}
