-- Lights or renews a user's lease: SetUserStatus(ONLINE), and a heartbeat that found no `online` key.
--
-- KEYS 1 status, 2 meta, 3 deadlines, 4 log, 5 seq, 6 connections, 7 details, 8 sweeper
-- ARGV 1 user, 2 channel, 3 lease ms, 4 activity (0 = as it is), 5 cause (proto number), 6 epoch
-- Returns the state line, or false: a heartbeat refused because the user signed out less than one lease ago.
-- Changes status key, meta, index; on a transition also seq, log, channel.

local status_key, meta_key, deadlines_key = KEYS[1], KEYS[2], KEYS[3]
local user, channel, ttl, activity, cause = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local now = clock_ms()
local refused = refusal(KEYS[8], ARGV[6], now)
if refused then return refused end

local signed_out, was = unpack(redis.call('HMGET', meta_key, 'x', 's'))
-- Before any other write: one that cannot grow, so that a user who is ONLINE stays so while memory is full.
if was == ONLINE then redis.call('HDEL', meta_key, cause == BY_HEARTBEAT and '' or 'g') end
if cause == BY_HEARTBEAT then
  if signed_out and now < tonumber(signed_out) then
    -- The clock went back: the refusal is counted from now, not until the clock is there again.
    redis.call('HSET', meta_key, 'x', text(now))
    return false
  end
  if signed_out and now - tonumber(signed_out) < ttl then return false end
  if was == ONLINE then
    redis.call('SET', status_key, 'online', 'PXAT', text(now + ttl))
    redis.call('ZADD', deadlines_key, 'NX', now + ttl + 1, user)
    return present_line(user, ttl, status_key, meta_key, deadlines_key)
  end
elseif activity ~= NO_ACTIVITY then
  redis.call('HSET', meta_key, 'q', activity)
end
return settle(KEYS, user, cause, true, ttl, now, channel)
  or present_line(user, ttl, status_key, meta_key, deadlines_key)
