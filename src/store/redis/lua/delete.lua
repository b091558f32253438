-- Deletes all that is stored of a user. A mark stays for two leases: it refuses heartbeats and sessions that have not heard
-- of it yet, and holds nothing but the time. Entries of the log go by their age.
--
-- KEYS 1 status, 2 meta, 3 deadlines, 4 log, 5 seq, 6 connections, 7 details, 8 privacy, 9 returns
-- ARGV 1 user, 2 channel, 3 lease ms
-- Returns { line of the OFFLINE state that watchers are told (false: nothing was stored), { node, id of each connection } }.

local status_key, meta_key, deadlines_key, log_key, seq_key, _, details_key, privacy_key, returns_key = unpack(KEYS)
local user, channel, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3])
local now = clock_ms()

local connections, fields = {}, redis.call('HGETALL', details_key)
for i = 1, #fields, 2 do
  local node = string.match(fields[i + 1], '^%d\31[^\31]*\31%d\31%d+\31([^\31]*)')
  if node then
    connections[#connections + 1] = node
    connections[#connections + 1] = fields[i]
  end
end
redis.call('ZREM', deadlines_key, user)
redis.call('ZREM', returns_key, user)
if redis.call('DEL', status_key, meta_key, KEYS[6], details_key, privacy_key) == 0 then return { false, {} } end

redis.call('HSET', meta_key, 'x', text(now))
redis.call('PEXPIRE', meta_key, 2 * ttl)
local previous, version = take_versions(seq_key, 1, now)
local line = state_line(text(version), user, OFFLINE, NO_ACTIVITY, '0', '0', '0', '0')
record(log_key, channel, previous, version, { line }, STATES)
local before, privacy_version = take_versions(seq_key, 1, now)
record(log_key, channel, before, privacy_version, { text(privacy_version) .. '\31' .. user }, PRIVACY)
return { line, connections }
