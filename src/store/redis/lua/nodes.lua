-- Says that a node is alive, or that it leaves, and tells who is; and hands it what was left for it.
--
-- KEYS 1 nodes, 2 notes for this node, 3 lengths of nodes' leases
-- ARGV 1 node, 2 life ms (0 = leaves), 3 its lease ms
-- Returns { live nodes in order of their ids, what was left for it, lease ms of each node: empty where
-- it does not say }.

-- So much further away than any node is announced for is an end that was written before the clock went back.
local LONGEST_MS = 10000

local nodes_key, leases_key, node, life = KEYS[1], KEYS[3], ARGV[1], tonumber(ARGV[2])
local now = clock_ms()
redis.call('ZREMRANGEBYSCORE', nodes_key, '-inf', now)
redis.call('ZREMRANGEBYSCORE', nodes_key, now + LONGEST_MS, '+inf')
if life > 0 then
  redis.call('ZADD', nodes_key, now + life, node)
  redis.call('HSET', leases_key, node, ARGV[3])
else
  redis.call('ZREM', nodes_key, node)
end
local nodes = redis.call('ZRANGE', nodes_key, 0, -1)
table.sort(nodes)
local leases, is_live = {}, {}
for i, live in ipairs(nodes) do
  leases[i] = redis.call('HGET', leases_key, live) or ''
  is_live[live] = true
end
if redis.call('HLEN', leases_key) > #nodes then
  for _, known in ipairs(redis.call('HKEYS', leases_key)) do
    if not is_live[known] then redis.call('HDEL', leases_key, known) end
  end
end
local evicted = redis.call('LRANGE', KEYS[2], 0, -1)
if #evicted > 0 then redis.call('DEL', KEYS[2]) end
return { nodes, evicted, leases }
