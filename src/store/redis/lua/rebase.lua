-- After Redis' clock went back: leases, graces and connections whose ends are further away than any lease is long were given
-- before, and end that much earlier by the clock of now. What was renewed since has its true end already. Keys of users are
-- made here, as in check.lua.
--
-- KEYS 1 deadlines, 2 sweeper
-- ARGV 1 the longest lease ms, 2 grace ms, 3 what the keys of the partition's users begin with, 4 most users of a call
-- Returns 1 if there may be more, else 0.

local deadlines_key, sweeper_key = KEYS[1], KEYS[2]
local ttl, grace, start, most = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local now = clock_ms()
local back = tonumber(redis.call('HGET', sweeper_key, 'back') or '0')
if back == 0 then return 0 end

local function is_before(time, length)
  return time and tonumber(time) > now + length
end

local function rebase_connections(user)
  local connections_key = start .. 'user:connections:' .. user
  local scored = redis.pcall('ZRANGEBYSCORE', connections_key, '(' .. text(now + ttl), '+inf', 'WITHSCORES')
  for i = 1, #scored, 2 do redis.call('ZADD', connections_key, scored[i + 1] - back, scored[i]) end
  for _, key in ipairs({ connections_key, start .. 'user:details:' .. user }) do
    if redis.call('PTTL', key) > 2 * ttl then redis.call('PEXPIRE', key, 2 * ttl) end
  end
end

local function rebase(user)
  local status_key, meta_key = start .. 'user:status:' .. user, start .. 'user:meta:' .. user
  local deadline = redis.call('PEXPIRETIME', status_key)
  if deadline <= 0 then
    deadline = check_time(deadlines_key, user) - 1 - back
  elseif is_before(deadline, ttl) then
    deadline = deadline - back
    redis.call('PEXPIREAT', status_key, text(deadline))
  end
  local grace_ends, original_deadline = unpack(redis.pcall('HMGET', meta_key, 'g', 'e'))
  if is_before(grace_ends, grace) then
    grace_ends = grace_ends - back
    redis.call('HSET', meta_key, 'g', text(grace_ends))
  end
  if is_before(original_deadline, ttl) then redis.call('HSET', meta_key, 'e', text(original_deadline - back)) end
  rebase_connections(user)
  local check_at = math.min(deadline + 1, tonumber(grace_ends or nil) or deadline + 1, now + ttl + 1)
  local has_more = grace_ends or original_deadline
  redis.call('ZADD', deadlines_key, has_more and place_with_more(check_at) or check_at, user)
end

local limit = text(now + ttl + 1)
local plain = redis.call('ZRANGEBYSCORE', deadlines_key, '(' .. limit, '+inf', 'LIMIT', 0, most)
local below = redis.call('ZRANGEBYSCORE', deadlines_key, '-inf', '(-' .. limit, 'LIMIT', 0, most)
for _, users in ipairs({ plain, below }) do
  for _, user in ipairs(users) do rebase(user) end
end
if #plain == most or #below == most then return 1 end
redis.call('HDEL', sweeper_key, 'back')
return 0
