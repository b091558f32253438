// The same job with Socket.IO and its Redis adapter, as their documentation shows: a room for each watched user, state
// in Redis with a TTL. Socket.IO has no leases of its own, so a crashed client's user simply expires. Says its port.
import { createServer } from 'node:http';
import { createAdapter } from '@socket.io/redis-adapter';
import { Redis } from 'ioredis';
import { Server } from 'socket.io';

const ttlSeconds = Number(process.env.TTL_SECONDS ?? 30);
const redis = new Redis(process.env.REDIS_URL);
const http = createServer();
const io = new Server(http, {
  adapter: createAdapter(redis, redis.duplicate()),
  transports: ['websocket'],
  serveClient: false,
});
const keyOf = (userId) => `user:status:${userId}`;

io.on('connection', (socket) => {
  socket.on('heartbeat', async (userId, reply) => {
    reply((await redis.expire(keyOf(userId), ttlSeconds)) === 1);
  });
  socket.on('set', async (userId, isOnline, reply) => {
    if (isOnline) await redis.set(keyOf(userId), 'online', 'EX', ttlSeconds);
    else await redis.set(keyOf(userId), 'offline');
    io.to(`watch:${userId}`).emit('status', userId, isOnline, Date.now());
    reply(true);
  });
  socket.on('watch', async (userIds, reply) => {
    socket.join(userIds.map((userId) => `watch:${userId}`));
    reply((await redis.mget(userIds.map(keyOf))).map((value) => value === 'online'));
  });
});

http.listen(0, '127.0.0.1', () => console.log(`port ${http.address().port}`));
