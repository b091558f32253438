/** Every row of the table of refusals, from a real Redis: told once, counted, shown while it lasts, and over when it is. */
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { createClient } from 'redis';
import { redisCommand } from '../../../test/support/redis-command.ts';
import { freePort, RedisServer } from '../../../test/support/redis-server.ts';
import { startStore } from '../../../test/support/redis-store.ts';
import { waitFor } from '../../../test/support/wait.ts';
import { type Log, silentLog } from '../../observe/log.ts';
import type { RedisStore, RedisStoreOptions } from './redis-store.ts';
import { type RefusalCode, refusalCode, refusalTable } from './refusals.ts';

const longMs = 30_000;

/** A store, and what it logged at the default level: `begins CODE`, `ends CODE`. */
async function startLogged(
  url: string,
  options: Partial<RedisStoreOptions> = {},
): Promise<{ store: RedisStore; told: string[] }> {
  const told: string[] = [];
  const tell = (how: string) => (fields: { code?: string }) => {
    if (fields.code !== undefined) told.push(`${how} ${fields.code}`);
  };
  const log = { ...silentLog, warn: tell('begins'), info: tell('ends') } as unknown as Log;
  return { store: await startStore({ url }, { ttlMs: 60_000, log, ...options }), told };
}

const shown = (store: RedisStore, code: RefusalCode): boolean =>
  [...store.troubles, ...store.refused].some((line) => line.startsWith(`${code}: `));

/** From the refusal to its end, whatever mends it. */
async function assertEpisode(
  { store, told }: { store: RedisStore; told: string[] },
  code: RefusalCode,
  mend: () => Promise<unknown>,
): Promise<void> {
  await waitFor(
    () => `${code} to be shown, not ${store.troubles}`,
    () => shown(store, code),
    longMs,
  );
  const { isReady } = refusalTable[code];
  assert.equal(
    store.troubles.some((line) => line.startsWith(code)),
    !isReady,
    'it is no reason to be not ready',
  );
  assert.ok((store.stats().refusals[code] ?? 0) > 0, 'counted');
  await mend();
  await waitFor(
    () => `the end of ${code}, with ${store.troubles} ${store.refused}`,
    async () => {
      const isServed = await store.heartbeat('anybody').catch(() => false);
      return isServed && store.troubles.length === 0 && store.refused.length === 0;
    },
    longMs,
  );
  assert.equal(told.filter((line) => line === `begins ${code}`).length, 1, told.join());
  assert.equal(told.filter((line) => line === `ends ${code}`).length, 1, told.join());
}

describe('a Redis that refuses', () => {
  let redis: RedisServer;
  let admin: ReturnType<typeof createClient>;
  const set = (...pairs: string[]) => admin.sendCommand(['CONFIG', 'SET', ...pairs]);
  const send = (...args: string[]) => admin.sendCommand(args);

  before(async () => {
    redis = await RedisServer.start(['--enable-debug-command', 'yes']);
    admin = createClient({ url: redis.url });
    admin.on('error', () => {});
    await admin.connect();
  });
  after(async () => {
    admin.destroy();
    await redis.stop();
  });

  const rows: readonly {
    readonly code: RefusalCode;
    readonly cause: (store: RedisStore) => Promise<unknown>;
    readonly mend: () => Promise<unknown>;
    readonly readsMeanwhile?: boolean;
  }[] = [
    {
      code: 'READONLY',
      cause: () => send('REPLICAOF', '127.0.0.1', '1'),
      mend: () => send('REPLICAOF', 'NO', 'ONE'),
    },
    {
      code: 'MASTERDOWN',
      cause: async () => {
        await set('replica-serve-stale-data', 'no');
        await send('REPLICAOF', '127.0.0.1', '1');
      },
      mend: () => send('REPLICAOF', 'NO', 'ONE'),
    },
    {
      code: 'NOREPLICAS',
      cause: () => set('min-replicas-to-write', '1'),
      mend: () => set('min-replicas-to-write', '0'),
      readsMeanwhile: true,
    },
    {
      code: 'MISCONF',
      cause: async () => {
        const { dir } = (await admin.configGet('dir')) as { dir: string };
        rmSync(dir, { recursive: true });
        await set('save', '3600 1');
        await send('BGSAVE');
      },
      mend: () => set('save', ''),
      readsMeanwhile: true,
    },
    {
      code: 'OOM',
      cause: async (store) => {
        await set('maxmemory', '1');
        const refused = { code: 'REDIS_ERROR', message: /OOM: Redis' memory is full/ };
        await assert.rejects(store.setOnline(`new ${Math.random()}`, null), refused);
      },
      mend: () => set('maxmemory', '0'),
      readsMeanwhile: true,
    },
    {
      code: 'NOPERM',
      cause: () => send('ACL', 'SETUSER', 'default', 'resetchannels'),
      mend: () => send('ACL', 'SETUSER', 'default', 'allchannels'),
    },
    {
      code: 'WRONGTYPE',
      cause: async (store) => {
        await admin.del('user:meta:wrong');
        await admin.lPush('user:meta:wrong', 'another program');
        await assert.rejects(store.setOnline('wrong', null), { code: 'REDIS_ERROR', message: /WRONGTYPE/ });
      },
      mend: () => admin.del('user:meta:wrong'),
      readsMeanwhile: true,
    },
    {
      code: 'BUSY',
      cause: async () => {
        await set('busy-reply-threshold', '20');
        const client = createClient({ url: redis.url });
        await client.connect();
        client
          .eval('while true do end')
          .catch(() => {})
          .finally(() => client.destroy());
      },
      mend: () => send('SCRIPT', 'KILL'),
    },
    {
      code: 'MAXCLIENTS',
      cause: async () => {
        await set('maxclients', '1');
        await send('CLIENT', 'KILL', 'SKIPME', 'yes');
      },
      mend: () => set('maxclients', '1000'),
    },
    {
      code: 'NOAUTH',
      cause: async () => {
        await set('requirepass', 'secret');
        await send('CLIENT', 'KILL', 'SKIPME', 'yes');
      },
      mend: () => set('requirepass', ''),
    },
    {
      code: 'OTHER',
      cause: async (store) => {
        await admin.hSet('user:meta:other', { s: '1', v: 'no number' });
        await admin.hSet('user:details:other', 'x', 'y');
        await admin.set('presence:0:seq', 'no number');
        await Promise.all(
          Array.from({ length: 20 }, (_, n) => store.setOnline(`other-${n}`, null).catch(() => {})),
        );
      },
      mend: () => admin.del('presence:0:seq'),
      readsMeanwhile: true,
    },
  ];

  for (const { code, cause, mend, readsMeanwhile = false } of rows) {
    it(`${code}: ${refusalTable[code].reason}`, async (context) => {
      const logged = await startLogged(redis.url);
      context.after(() => logged.store.stop());
      await waitFor('the engine', () => logged.store.available, longMs);
      await logged.store.setOnline('anybody', null);
      logged.told.length = 0;
      context.after(() => mend().catch(() => {}));
      await cause(logged.store);
      await assertEpisode(logged, code, async () => {
        if (readsMeanwhile) assert.equal((await logged.store.read(['anybody']))[0]?.status, 'ONLINE');
        await mend();
      });
    });
  }

  it('TIMEOUT: it hangs, and CONNECTION_REFUSED: it is gone', async (context) => {
    const own = await RedisServer.start();
    context.after(() => own.stop());
    const logged = await startLogged(own.url);
    context.after(() => logged.store.stop());
    await waitFor('the engine', () => logged.store.available, longMs);
    own.signal('SIGSTOP');
    await logged.store.heartbeat('anybody').catch(() => {});
    await assertEpisode(logged, 'TIMEOUT', async () => own.signal('SIGCONT'));
    await own.kill();
    await assertEpisode(logged, 'CONNECTION_REFUSED', () => own.run());
  });

  it('LOADING: it starts with much data', async (context) => {
    const slow = [
      '--appendonly',
      'yes',
      '--key-load-delay',
      '8000',
      '--loading-process-events-interval-bytes',
      '1024',
    ];
    const own = await RedisServer.start([...slow, '--aof-use-rdb-preamble', 'yes']);
    context.after(() => own.stop());
    const logged = await startLogged(own.url);
    context.after(() => logged.store.stop());
    await waitFor('the engine', () => logged.store.available, longMs);
    const filler = Array.from({ length: 200 }, (_, n) => [`filler-${n}`, 'x'.repeat(1000)]).flat();
    await redisCommand(own.port, 'MSET', ...filler);
    await redisCommand(own.port, 'BGREWRITEAOF');
    await waitFor('the rewrite', async () => {
      const info = await redisCommand<string>(own.port, 'INFO', 'persistence');
      return info.includes('aof_rewrite_in_progress:0') && info.includes('aof_last_bgrewrite_status:ok');
    });
    await own.kill();
    const running = own.run();
    await assertEpisode(logged, 'LOADING', () => running);
  });

  it('CLUSTERDOWN: a slot that nobody serves', async (context) => {
    const own = await RedisServer.start([
      '--cluster-enabled',
      'yes',
      '--cluster-port',
      String(await freePort()),
    ]);
    context.after(() => own.stop());
    await redisCommand(own.port, 'CLUSTER', 'ADDSLOTSRANGE', '0', '16383');
    const logged = await startLogged(`redis+cluster://127.0.0.1:${own.port}`);
    context.after(() => logged.store.stop());
    await waitFor('the engine', () => logged.store.available, longMs);
    // A Cluster serves some time after its start only.
    logged.told.length = 0;
    await redisCommand(own.port, 'CLUSTER', 'DELSLOTS', '7');
    await assertEpisode(logged, 'CLUSTERDOWN', () => redisCommand(own.port, 'CLUSTER', 'ADDSLOTS', '7'));
  });
});

/** One endpoint, as managed services have: new connections go to the present master, old ones stay where they are. */
class Endpoint {
  port = 0;
  target: number;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;

  constructor(target: number) {
    this.target = target;
  }

  async start(): Promise<void> {
    this.port = await freePort();
    this.#server = createServer((socket) => {
      const onward = connect(this.target, '127.0.0.1');
      for (const [from, to] of [
        [socket, onward],
        [onward, socket],
      ] as const) {
        this.#sockets.add(from);
        from.pipe(to);
        from.on('error', () => to.destroy());
        from.on('close', () => to.destroy());
      }
    }).listen(this.port, '127.0.0.1');
  }

  stop(): void {
    this.#server?.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

it('finds the new master behind one endpoint whose server was demoted', async (context) => {
  const old = await RedisServer.start(['--repl-diskless-sync-delay', '0']);
  context.after(() => old.stop());
  const next = await RedisServer.start([
    ...['--replicaof', '127.0.0.1', String(old.port)],
    ...['--repl-diskless-sync-delay', '0'],
  ]);
  context.after(() => next.stop());
  const isInStep = async () =>
    (await redisCommand<string>(next.port, 'INFO')).includes('master_link_status:up');
  await waitFor('the replica', isInStep, longMs);
  const endpoint = new Endpoint(old.port);
  await endpoint.start();
  context.after(() => endpoint.stop());
  const logged = await startLogged(`redis://127.0.0.1:${endpoint.port}`);
  context.after(() => logged.store.stop());
  await waitFor('the engine', () => logged.store.available, longMs);
  await logged.store.setOnline('anybody', null);
  await waitFor('the copy', async () => (await redisCommand(next.port, 'EXISTS', 'user:meta:anybody')) === 1);

  await redisCommand(old.port, 'REPLICAOF', '127.0.0.1', String(next.port));
  await waitFor('the reason', () => shown(logged.store, 'READONLY'), longMs);
  await assert.rejects(logged.store.heartbeat('anybody'), { code: 'REDIS_ERROR', message: /READONLY/ });
  endpoint.target = next.port;
  await assertEpisode(logged, 'READONLY', () => redisCommand(next.port, 'REPLICAOF', 'NO', 'ONE'));
  assert.equal(await redisCommand(next.port, 'GET', 'user:status:anybody'), 'online');
});

it('tells what cannot be made on this machine by its words', () => {
  const reply = (message: string) => new Error(message);
  const system = (code: string) => Object.assign(new Error(`connect ${code}`), { code });
  for (const [error, code] of [
    [reply('DENIED Redis is running in protected mode because protected mode is enabled'), 'DENIED'],
    [reply('ERR max number of clients reached'), 'MAXCLIENTS'],
    [reply('ERR AUTH <password> called without any password configured for the default user'), 'WRONGPASS'],
    [reply('EXECABORT Transaction discarded because of previous errors.'), 'OTHER'],
    [reply('RESTORING Redis lost its data, and nodes are writing back what they know'), 'RESTORING'],
    [reply('TRYAGAIN Multiple keys request during rehashing of slot'), 'TRYAGAIN'],
    [reply('ASK 3999 127.0.0.1:6381'), 'ASK'],
    [system('EHOSTUNREACH'), 'UNREACHABLE'],
    [system('EAI_AGAIN'), 'DNS'],
    [system('CERT_HAS_EXPIRED'), 'TLS'],
    [system('ERR_TLS_CERT_ALTNAME_INVALID'), 'TLS'],
    [system('ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED'), 'TLS'],
    [new AggregateError([system('ECONNREFUSED')]), 'CONNECTION_REFUSED'],
  ] as const) {
    assert.equal(refusalCode(error), code, error.message);
  }
});
