-- Says that a node is alive, or that it leaves, and tells who is.
--
-- KEYS 1 nodes
-- ARGV 1 node, 2 life ms (0 = leaves)
-- Returns the live nodes in order of their ids.

local nodes_key, node, life = KEYS[1], ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if life > 0 then redis.call('ZADD', nodes_key, now + life, node) else redis.call('ZREM', nodes_key, node) end
redis.call('ZREMRANGEBYSCORE', nodes_key, '-inf', now)
local nodes = redis.call('ZRANGE', nodes_key, 0, -1)
table.sort(nodes)
return nodes
