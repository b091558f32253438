// The specification as it is written: grpc-js and ioredis, one Redis call for each rpc, OFFLINE by expired-key
// notifications. Says its port on standard output.
import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';
import { Redis } from 'ioredis';

const ONLINE = 1;
const OFFLINE = 2;
const ttlSeconds = Number(process.env.TTL_SECONDS ?? 30);
const nextHeartbeatSeconds = Math.floor(ttlSeconds / 2);

const definition = protoLoader.loadSync(
  fileURLToPath(new URL('../../proto/baseline/presence/v1/presence.proto', import.meta.url)),
  {
    keepCase: true,
    longs: Number,
    enums: Number,
    defaults: true,
  },
);
const { PresenceService } = grpc.loadPackageDefinition(definition).presence.v1;

const redis = new Redis(process.env.REDIS_URL);
const notifications = new Redis(process.env.REDIS_URL);
await redis.config('SET', 'notify-keyspace-events', 'Ex');

const keyPrefix = 'user:status:';
const keyOf = (userId) => `${keyPrefix}${userId}`;
/** Watched user -> calls. */
const watchers = new Map();

function broadcast(userId, status) {
  for (const call of watchers.get(userId) ?? []) {
    call.write({ user_id: userId, status, timestamp: Date.now() });
  }
}

await notifications.subscribe('__keyevent@0__:expired');
notifications.on('message', (_channel, key) => {
  if (key.startsWith(keyPrefix)) broadcast(key.slice(keyPrefix.length), OFFLINE);
});

/** A handler that answers what its promise brings. */
const unary = (work) => (call, reply) =>
  work(call.request).then(
    (response) => reply(null, response),
    (error) => reply({ code: grpc.status.UNAVAILABLE, message: error.message }),
  );

const dataOf = (userId, value) => ({
  user_id: userId,
  status: value === 'online' ? ONLINE : OFFLINE,
  last_seen: 0,
});

const server = new grpc.Server();
server.addService(PresenceService.service, {
  SetUserStatus: unary(async ({ user_id: userId, status }) => {
    if (status === ONLINE) await redis.set(keyOf(userId), 'online', 'EX', ttlSeconds);
    else await redis.set(keyOf(userId), 'offline');
    broadcast(userId, status);
    return { success: true, message: '', data: { user_id: userId, status, last_seen: Date.now() } };
  }),
  GetUserStatus: unary(async ({ user_id: userId }) => ({
    success: true,
    data: dataOf(userId, await redis.get(keyOf(userId))),
  })),
  GetMultipleUserStatus: unary(async ({ user_ids: userIds }) => {
    const values = userIds.length === 0 ? [] : await redis.mget(userIds.map(keyOf));
    return { success: true, data: userIds.map((userId, index) => dataOf(userId, values[index])) };
  }),
  SendHeartbeat: unary(async ({ user_id: userId }) => ({
    success: (await redis.expire(keyOf(userId), ttlSeconds)) === 1,
    next_heartbeat_in_seconds: nextHeartbeatSeconds,
  })),
  SubscribeStatusUpdates: (call) => {
    const userIds = [...new Set(call.request.watch_user_ids)];
    for (const userId of userIds) {
      if (!watchers.has(userId)) watchers.set(userId, new Set());
      watchers.get(userId).add(call);
    }
    // The specification has no snapshot: the head of the response says that the subscription stands.
    call.sendMetadata(new grpc.Metadata());
    call.on('cancelled', () => {
      for (const userId of userIds) watchers.get(userId)?.delete(call);
    });
  },
});

server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(`port ${port}`);
});
