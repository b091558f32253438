-- Reads the present state of users. Writes nothing.
--
-- KEYS status, meta, deadlines of each user
-- ARGV 1 lease ms, then the users
-- Returns a state line for each, false for a user never heard of.
--
-- What was not judged yet reads as ONLINE: readers agree with watchers. An `online` key without meta was written by
-- somebody else and counts, as the spec says.

local ttl = tonumber(ARGV[1])
local states = {}
for i = 2, #ARGV do
  local user, status_key, meta_key = ARGV[i], KEYS[3 * i - 5], KEYS[3 * i - 4]
  local status, activity, cause, version, since, changed_at, last_seen, extended =
    unpack(redis.call('HMGET', meta_key, 's', 'a', 'c', 'v', 't', 'u', 'l', 'e'))
  if status == '1' or (not status and redis.call('GET', status_key) == 'online') then
    local deadline = extended and tonumber(extended) or redis.call('PEXPIRETIME', status_key)
    if deadline <= 0 then deadline = (tonumber(redis.call('ZSCORE', KEYS[3 * i - 3], user) or '0') - 1) end
    local renewed = deadline > 0 and string.format('%.0f', deadline - ttl) or changed_at or '0'
    states[i - 1] = table.concat({ version or '0', user, '1', activity or '1', cause or '0', since or renewed,
      changed_at or renewed, renewed }, '\31')
  elseif status then
    states[i - 1] = table.concat({ version, user, '2', '0', cause, since, changed_at, last_seen or '0' }, '\31')
  else
    states[i - 1] = false
  end
end
return states
