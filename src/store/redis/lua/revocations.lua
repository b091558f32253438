-- Adds revocations of tokens, and answers those that are kept unless the caller knows them.
--
-- KEYS 1 revocations: hash of `kind:id` -> `revoked at ms:expires ms`, and `@` -> revision
-- ARGV 1 revision that the caller knows, 2 most that may be kept, then field, revoked at ms, expires ms of each new one
-- Returns { revision or '', the hash as a list unless that revision is known }, or false when there is no room.

local key, known, most = KEYS[1], ARGV[1], tonumber(ARGV[2])

local function number(value)
  return string.format('%.0f', value)
end

local function later(field, revoked_at, expires)
  local before_at, before_expires = string.match(redis.call('HGET', key, field) or '', '^(%d+):(%d+)$')
  return number(math.max(revoked_at, tonumber(before_at or '0'))) .. ':' ..
    number(math.max(expires, tonumber(before_expires or '0')))
end

if #ARGV > 2 then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local last = 0
  local kept = redis.call('HGETALL', key)
  for i = 1, #kept, 2 do
    local expires = tonumber(string.match(kept[i + 1], ':(%d+)$'))
    if expires and expires <= now then redis.call('HDEL', key, kept[i]) end
    last = math.max(last, expires or 0)
  end
  for i = 3, #ARGV, 3 do
    local field, revoked_at, expires = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
    if redis.call('HEXISTS', key, field) == 0 and redis.call('HLEN', key) > most then return false end
    redis.call('HSET', key, field, later(field, revoked_at, expires))
    last = math.max(last, expires)
  end
  -- Unlike a counter, it is not met again after the data was lost.
  redis.call('HSET', key, '@', number(time[1] * 1000000 + time[2]))
  redis.call('PEXPIREAT', key, number(math.max(last, now + 1000)))
end

local revision = redis.call('HGET', key, '@') or ''
if revision == known then return { revision } end
return { revision, redis.call('HGETALL', key) }
