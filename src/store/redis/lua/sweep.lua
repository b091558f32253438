-- Judges users of one partition whom check.lua found, checking each again: what was renewed meanwhile gets a new place in
-- the index, what is really over goes OFFLINE. All that go form one log entry and one message. Two sweepers at once are
-- harmless. Keys that somebody else made something else of (pcall) concern their user alone.
--
-- KEYS 1 deadlines, 2 log, 3 seq, 4 sweeper, then status, meta, connections of each user
-- ARGV 1 lease ms, 2 grace ms, 3 last-seen ttl ms, 4 channel, 5 outage ms, then the users
-- Returns { users put out, users extended because of an outage, largest lateness of a judgement ms, 1 if this call found the
-- outage, else 0 }.

local deadlines_key, log_key, seq_key, sweeper_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local ttl, grace, last_seen_ttl, channel = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local now = clock_ms()
local swept, judge_from, resumed = unpack(redis.call('HMGET', sweeper_key, 'swept', 'judge', 'resumed'))
judge_from, resumed = tonumber(judge_from or nil) or 0, tonumber(resumed or nil) or 0
-- Here too and not only in claim.lua: no judgement may come between a step of the clock and somebody's noticing it.
local is_outage = note_gap(sweeper_key, swept, now, tonumber(ARGV[5]), ttl) == 'outage'
if is_outage then judge_from, resumed = now + ttl, now end

-- When a grace ends: one that an outage interrupted runs its whole length after it, as nobody could come back meanwhile.
local function grace_end(grace_ends)
  local ends = tonumber(grace_ends or nil)
  return ends and ends - grace < resumed and math.max(ends, resumed + grace) or ends
end

-- Answers cause and last seen of a user whose time is over, or puts them back into the index and answers nothing.
local extended = 0
local function verdict(user, check_at, status_key, meta_key, connections_key)
  local status, grace_ends, original_deadline = unpack(redis.pcall('HMGET', meta_key, 's', 'g', 'e'))
  if status ~= ONLINE then
    redis.call('ZREM', deadlines_key, user)
    return
  end
  local deadline = redis.call('PEXPIRETIME', status_key)
  local renewed = (deadline > 0 and deadline or check_at - 1) - ttl
  local graced_until = grace_end(grace_ends)
  if graced_until and now >= graced_until then
    return BY_DISCONNECT, math.max(tonumber(grace_ends) - grace, renewed)
  end
  -- Written by somebody else, since ours takes the user out of the index.
  if deadline > 0 and redis.pcall('GET', status_key) == 'offline' then return BY_SET, now end
  if deadline > 0 then
    local place = graced_until and place_with_more(math.min(deadline + 1, graced_until)) or deadline + 1
    redis.call('ZADD', deadlines_key, place, user)
    if original_deadline then redis.call('HDEL', meta_key, 'e') end
    return
  end
  if now < judge_from then
    redis.call('SET', status_key, 'online', 'PX', ttl)
    redis.call('HSETNX', meta_key, 'e', text(check_at - 1))
    local check_next = math.min(now + ttl + 1, graced_until or now + ttl + 1)
    redis.call('ZADD', deadlines_key, place_with_more(check_next), user)
    extended = extended + 1
    return
  end
  if original_deadline then renewed = tonumber(original_deadline) - ttl end
  -- Entries that nobody renewed or took back are those of a node that died.
  local is_node_lost = redis.call('EXISTS', connections_key) == 1
    and redis.pcall('ZCOUNT', connections_key, now, '+inf') == 0
  if is_node_lost then redis.call('DEL', connections_key) end
  return is_node_lost and BY_NODE_LOST or BY_EXPIRED, renewed
end

local over, lateness = {}, 0
for i = 6, #ARGV do
  local user, first = ARGV[i], 3 * (i - 6) + 5
  local status_key, meta_key, connections_key = KEYS[first], KEYS[first + 1], KEYS[first + 2]
  local check_at = check_time(deadlines_key, user)
  if check_at and check_at <= now then
    local cause, last_seen = verdict(user, check_at, status_key, meta_key, connections_key)
    if cause then
      over[#over + 1] = { user, status_key, meta_key, cause, last_seen }
      lateness = math.max(lateness, now - check_at)
    end
  end
end

if #over > 0 then
  local previous, first_version = take_versions(seq_key, #over, now)
  local lines = {}
  for i, gone in ipairs(over) do
    local user, status_key, meta_key, cause, last_seen = unpack(gone)
    redis.call('DEL', status_key)
    redis.call('ZREM', deadlines_key, user)
    lines[i] = put_out(meta_key, user, first_version + i - 1, cause, now, last_seen, last_seen_ttl)
  end
  record(log_key, channel, previous, first_version + #over - 1, lines, STATES)
end
return { #over, extended, lateness, is_outage and 1 or 0 }
