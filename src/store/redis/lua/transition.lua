-- Put before every script that changes a user (scripts.ts): the clock, the wire form of a state, and the one way to
-- record transitions.
--
-- A state is one line of text: version, user, status, activity, cause, since, changed at, last seen, custom status,
-- separated by 0x1F; of a user who has privacy also its version. User ids hold no control characters. Numbers of status, activity and cause are the proto's. Times are
-- Unix ms. A custom status is empty, or expiry (0 = never), text and emoji, separated by 0x1D; in meta those that return are
-- kept before it, separated by 0x1E.

local ONLINE, OFFLINE = '1', '2'
local NO_ACTIVITY, ACTIVE = '0', '1'
local BY_SET, BY_HEARTBEAT, BY_CONNECT, BY_DISCONNECT, BY_EXPIRED, BY_NODE_LOST = '1', '2', '3', '4', '5', '6'
local LOG_ENTRIES = 10000
local STATES, PRIVACY = 'states 1', 'privacy 1'

local function clock_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Lua would write a large number as 1.79e+15.
local function text(number)
  return string.format('%.0f', number)
end

-- An error where nobody may be set online yet: Redis lost its data, and nodes are writing back what they know; else nil.
-- `epoch` is that for which the calling node has done so; empty: it knows nothing.
local function refusal(sweeper_key, epoch, now)
  local present, opens = unpack(redis.call('HMGET', sweeper_key, 'epoch', 'opens'))
  local wait = tonumber(opens or '0') - now
  -- One that is longer was written before the clock went back.
  if (epoch == '' or epoch == present) and (wait <= 0 or wait > 10000) then return nil end
  return redis.error_reply('RESTORING Redis lost its data, and nodes are writing back what they know')
end

-- The last of the custom statuses in meta. Not by '[^\30]*$', which Lua tries from every byte of those before it.
local function custom_in_force(customs)
  return customs and (string.match(customs, '^.*\30(.*)$') or customs) or ''
end

-- `customs`: the custom statuses in meta; the last is in force. `privacy_version`: false or nil where there is none.
local function state_line(version, user, status, activity, cause, since, changed_at, last_seen, customs, privacy_version)
  local custom = custom_in_force(customs)
  return table.concat({ version, user, status, activity, cause, since, changed_at, last_seen, custom,
    privacy_version or nil }, '\31')
end

-- A place in the deadline index, below zero: meta has more to say then than the lease (`g`, `e`), so check.lua leaves the
-- user to sweep.lua. Where that is no longer so, it does no harm.
local function place_with_more(time)
  return -math.abs(time)
end

-- When the index has a user checked; nil for one who is not in it.
local function check_time(deadlines_key, user)
  local place = tonumber(redis.call('ZSCORE', deadlines_key, user) or nil)
  return place and math.abs(place)
end

-- The line of a user's present state, or false for a user never heard of.
--
-- What was not judged yet reads as ONLINE: readers agree with watchers. An `online` key where meta says otherwise was
-- written by somebody else and counts, as the spec says.
local function present_line(user, ttl, status_key, meta_key, deadlines_key)
  local status, activity, cause, version, since, changed_at, last_seen, extended, customs, privacy_version =
    unpack(redis.call('HMGET', meta_key, 's', 'a', 'c', 'v', 't', 'u', 'l', 'e', 'y', 'p'))
  if status == ONLINE or redis.call('GET', status_key) == 'online' then
    local deadline = extended and tonumber(extended) or redis.call('PEXPIRETIME', status_key)
    if deadline <= 0 then deadline = (check_time(deadlines_key, user) or 0) - 1 end
    local renewed = deadline > 0 and text(deadline - ttl) or changed_at or '0'
    return state_line(version or '0', user, ONLINE, activity or ACTIVE, cause or '0', since or renewed,
      changed_at or renewed, renewed, customs, privacy_version)
  end
  if not status and not privacy_version then return false end
  return state_line(version or '0', user, OFFLINE, NO_ACTIVITY, cause or '0', since or '0', changed_at or '0',
    last_seen or '0', customs, privacy_version)
end

-- Versions of the next `count` transitions of a partition: microseconds of the clock, or one more than the last where
-- that is not larger. Returns the version before, and the first of them.
local function take_versions(seq_key, count, now)
  local previous = tonumber(redis.call('GET', seq_key) or '0')
  local first = math.max(previous + 1, now * 1000)
  redis.call('SET', seq_key, text(first + count - 1))
  return previous, first
end

-- Appends one entry to the log and publishes the same. `tag`: type and version of what its lines say, STATES or PRIVACY;
-- a reader skips those that it does not know. `message_end`: what only the message says besides. Pilotlight 0.1.0 reads fields by their place, so new ones come last.
local function record(log_key, channel, previous, last, lines, tag, message_end)
  local content = table.concat(lines, '\n')
  redis.call('XADD', log_key, 'MAXLEN', '~', LOG_ENTRIES, text(last) .. '-0', 'p', text(previous), 't', content, 'k', tag)
  redis.call('SPUBLISH', channel, tag .. '\n' .. text(previous) .. '\n' .. text(last) .. '\n' .. content .. (message_end or ''))
end

-- Writes an OFFLINE state into a user's meta and returns its line. The caller settles the status key and the index.
local function put_out(meta_key, user, version, cause, now, last_seen, last_seen_ttl)
  redis.call('HSET', meta_key, 's', OFFLINE, 'a', NO_ACTIVITY, 'c', cause, 'v', text(version), 't', text(now),
    'u', text(now), 'l', text(last_seen))
  redis.call('HDEL', meta_key, 'g', 'e', 'q')
  local customs, privacy_version = unpack(redis.call('HMGET', meta_key, 'y', 'p'))
  if not privacy_version then redis.call('PEXPIRE', meta_key, last_seen_ttl) end
  return state_line(text(version), user, OFFLINE, NO_ACTIVITY, cause, text(now), text(now), text(last_seen), customs)
end
