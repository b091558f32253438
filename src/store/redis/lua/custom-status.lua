-- Sets a user's custom status. One that expires lets those before it return that outlive it, at most three.
--
-- KEYS 1 status, 2 meta, 3 deadlines, 4 log, 5 seq, 6 returns
-- ARGV 1 user, 2 channel, 3 lease ms, 4 last-seen ttl ms, 5 life ms (0 = for good), 6 text, 7 emoji (both '' = none)
-- Returns the state line, false for a user never heard of.

local meta_key, returns_key = KEYS[2], KEYS[6]
local user, channel, ttl, last_seen_ttl, life, words, emoji = unpack(ARGV)
ttl, life = tonumber(ttl), tonumber(life)
local now = clock_ms()

local before = redis.call('HGET', meta_key, 'y')
local kept = {}
if words ~= '' or emoji ~= '' then
  local expires = life == 0 and 0 or now + life
  if expires > 0 then
    for _, custom in ipairs(parse_customs(before, now)) do
      if custom.expires == 0 or custom.expires > expires then kept[#kept + 1] = custom end
    end
    if #kept > 3 then table.remove(kept, 1) end
  end
  kept[#kept + 1] = { expires = expires, raw = table.concat({ text(expires), words, emoji }, '\29') }
end
if write_customs(meta_key, returns_key, user, before, kept) then
  return tell_custom(KEYS, user, BY_SET, ttl, last_seen_ttl, now, channel)
end
return present_line(user, ttl, KEYS[1], meta_key, KEYS[3])
