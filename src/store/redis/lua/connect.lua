-- Counts a connection of a user and ends a running disconnect grace. A session lights or renews the lease, unless it resumes
-- and the user signed out meanwhile. Connections of its kind that are too many lose their place, the oldest first.
--
-- KEYS 1 status, 2 meta, 3 deadlines, 4 log, 5 seq, 6 connections, 7 details, 8 sweeper
-- ARGV 1 user, 2 channel, 3 lease ms, 4 connection id, 5 kind, 6 device, 7 activity (0 = none), 8 node,
--      9 id of the connection whose place it takes ('' = none), 10 '1' = it resumes, 11 most connections of a kind, 12 epoch
-- Returns { state line or false, now, since, '1' if it took a place, { node, id of each connection that lost its place },
-- when the user signed out, version of the user's privacy }; the last two empty where there is none.

local meta_key, connections_key, details_key = KEYS[2], KEYS[6], KEYS[7]
local user, channel, ttl, id, kind, device, activity, node, replaces, resumes, most, epoch = unpack(ARGV)
ttl, most = tonumber(ttl), tonumber(most)
local now = clock_ms()
local refused = refusal(KEYS[8], epoch, now)
if refused then return refused end

local counts = load_counts(connections_key, details_key, now, ttl)
forget_dead(connections_key, details_key, now, counts)
local since, replaced = text(now), '0'
for _, before in ipairs({ id, replaces }) do
  local other = remove_connection(connections_key, details_key, before, counts)
  if other then
    since = other.since
    if other.id == replaces then replaced = '1' end
  end
end

local evicted = {}
local surplus = count_of_kind(counts, kind) + 1 - most
if surplus > 0 then
  for _, other in ipairs(live_connections(connections_key, details_key, now)) do
    if surplus > 0 and other.kind == kind then
      surplus = surplus - 1
      remove_connection(connections_key, details_key, other.id, counts)
      evicted[#evicted + 1] = other.node
      evicted[#evicted + 1] = other.id
    end
  end
end

local line = table.concat({ kind, device, activity, since, node }, '\31')
add_connection(connections_key, details_key, id, line, ttl, now, counts)
redis.call('HDEL', meta_key, 'g')
local stays_out = resumes == '1' and redis.call('HGET', meta_key, 'x')
settle(KEYS, user, BY_CONNECT, kind == SESSION and not stays_out, ttl, now, channel)
local signed_out, privacy_version = unpack(redis.call('HMGET', meta_key, 'x', 'p'))
return { present_line(user, ttl, KEYS[1], meta_key, KEYS[3]), text(now), since, replaced, evicted,
  signed_out or '', privacy_version or '' }
