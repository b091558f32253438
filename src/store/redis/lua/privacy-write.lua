-- Writes a user's privacy, if neither it nor the user changed since privacy-read.lua. It takes a version of the partition,
-- and has an entry of its own in the log: a line of version and user. The message of it goes on with the version of the user and
-- the privacy, unless that is long: so watchers are told as soon as of a sign-out, and in the same order. Version and every time that is kept of the change
-- come from one reading of the clock, as those of a transition do: else their difference would tell who hides.
--
-- KEYS 1 status, 2 meta, 3 deadlines, 4 log, 5 seq, 6 privacy, 7 sweeper
-- ARGV 1 user, 2 channel, 3 lease ms, 4 last-seen ttl ms, 5 version of the user (0 = never heard of), 6 version of the
-- privacy before (empty = none), 7 whether the lease of an ONLINE user is renewed (1 or 0), 8 whether more is
-- hidden than before (1 or 0): refused while memory is full, 9 epoch, 10 until when the change holds ms (empty = for good),
-- from 11 the privacy in pieces, between which the time of the change goes (one that is empty = none)
-- Returns { version, clock ms }, false: something changed.

-- About 200 blocked users.
local LONGEST_TOLD = 16384

local status_key, meta_key, log_key, seq_key, privacy_key = KEYS[1], KEYS[2], KEYS[4], KEYS[5], KEYS[6]
local user, channel, ttl, last_seen_ttl, known, known_privacy, renews, grows, epoch, valid_until = unpack(ARGV, 1, 10)
local now = clock_ms()
local refused = refusal(KEYS[7], epoch, now)
if refused then return refused end
local status, version, privacy_version = unpack(redis.call('HMGET', meta_key, 's', 'v', 'p'))
if (version or '0') ~= known or (privacy_version or '') ~= known_privacy then return false end
if valid_until ~= '' and now >= tonumber(valid_until) then return false end
local privacy = table.concat(ARGV, text(now), 11)

-- Before any other write: one that cannot grow (scripts.ts).
if grows == '0' then redis.call('HDEL', meta_key, '') end
local previous, new_version = take_versions(seq_key, 1, now)
if privacy == '' then
  redis.call('DEL', privacy_key)
  redis.call('HDEL', meta_key, 'p', 'r')
  redis.call('HSET', meta_key, 'o', text(new_version))
  if status ~= ONLINE then redis.call('PEXPIRE', meta_key, last_seen_ttl) end
else
  redis.call('SET', privacy_key, text(new_version) .. '\n' .. privacy)
  redis.call('HSET', meta_key, 'p', text(new_version))
  redis.call('HDEL', meta_key, 'o', 'r')
  -- Who is hidden stays so however long nothing is heard.
  redis.call('PERSIST', meta_key)
end
if renews == '1' and status == ONLINE then
  redis.call('HDEL', meta_key, 'g')
  redis.call('SET', status_key, 'online', 'PXAT', text(now + tonumber(ttl)))
end
local news = #privacy <= LONGEST_TOLD and '\31' .. known .. '\31' .. privacy or nil
record(log_key, channel, previous, new_version, { text(new_version) .. '\31' .. user }, PRIVACY, news)
return { text(new_version), text(now) }
