-- Takes or renews the right to sweep partitions, and gives up others.
--
-- KEYS sweeper of each partition
-- ARGV 1 node, 2 life of an ownership ms, 3 outage ms, 4 lease ms, 5 how long nodes have to write back what they know ms,
-- then for each partition 1 = wanted, 0 = give up; then for each the epoch that the node knows (empty = none)
-- Returns { positions in KEYS (from 1) that the node now owns }, { those whose judgement is put off by an outage }, { the
-- epoch of each partition }: another epoch than before means that the partition's data went; and { those owned whose leases
-- are of a clock that went back since }, for rebase.lua.

-- So much further away than an ownership lasts is an end that was written before the clock went back.
local LONGEST_LIVES = 10
local STAMP_MS = 250

local node, life, outage, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local restore = tonumber(ARGV[5])
local now = clock_ms()
local owned, outages, epochs, backs = {}, {}, {}, {}
for position, sweeper_key in ipairs(KEYS) do
  local owner, owned_until, swept, epoch, back, opens =
    unpack(redis.call('HMGET', sweeper_key, 'owner', 'until', 'swept', 'epoch', 'back', 'opens'))
  local is_mine = owner == node
  if not epoch then
    epoch = text(now * 1000)
    swept = text(now)
    redis.call('HSET', sweeper_key, 'epoch', epoch, 'swept', swept)
  end
  epochs[position] = epoch
  local gap = note_gap(sweeper_key, swept, now, outage, ttl)
  if gap == 'outage' then outages[#outages + 1] = position end
  local left = (tonumber(owned_until or nil) or 0) - now
  local is_free = not owner or owner == '' or left < 0 or left > LONGEST_LIVES * life
  -- The first who knew the data that went gives the others time: until then nobody is set online.
  local known = ARGV[5 + #KEYS + position]
  if known ~= '' and known ~= epoch and not opens then
    redis.call('HSET', sweeper_key, 'opens', text(now + restore))
  end
  if ARGV[5 + position] == '0' then
    if is_mine then redis.call('HSET', sweeper_key, 'owner', '') end
  elseif is_mine or is_free then
    redis.call('HSET', sweeper_key, 'owner', node, 'until', text(now + life), 'swept', text(now))
    owned[#owned + 1] = position
    if gap == 'back' or (back and gap ~= 'outage') then backs[#backs + 1] = position end
  end
  -- While nobody sweeps, as after the crash of the owner, the engine is there all the same.
  if now - tonumber(swept) > STAMP_MS then redis.call('HSET', sweeper_key, 'swept', text(now)) end
end
return { owned, outages, epochs, backs }
