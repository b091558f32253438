-- Lists a user's connections that somebody still renews. Writes nothing.
--
-- KEYS 1 connections, 2 details
-- Returns for each, oldest first: { id, kind, device, activity, since, deadline }.

local listed = {}
for i, connection in ipairs(live_connections(KEYS[1], KEYS[2], clock_ms())) do
  listed[i] = { connection.id, connection.kind, connection.device, connection.activity, connection.since,
    redis.call('ZSCORE', KEYS[1], connection.id) }
end
return listed
