-- Keeps what a node tells the others of itself. A script, since SET alone is refused while memory is full.
--
-- KEYS 1 report of the node
-- ARGV 1 report, 2 life ms
-- Returns nothing.

redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
