-- Says that a node is alive, or that it leaves, and tells who is; and hands it what was left for it.
--
-- KEYS 1 nodes, 2 evictions of this node
-- ARGV 1 node, 2 life ms (0 = leaves)
-- Returns { live nodes in order of their ids, ids of its sessions that lost their place }.

local nodes_key, node, life = KEYS[1], ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if life > 0 then redis.call('ZADD', nodes_key, now + life, node) else redis.call('ZREM', nodes_key, node) end
redis.call('ZREMRANGEBYSCORE', nodes_key, '-inf', now)
local nodes = redis.call('ZRANGE', nodes_key, 0, -1)
table.sort(nodes)
local evicted = redis.call('LRANGE', KEYS[2], 0, -1)
if #evicted > 0 then redis.call('DEL', KEYS[2]) end
return { nodes, evicted }
