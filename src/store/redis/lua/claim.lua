-- Takes or renews the right to sweep partitions, and gives up others. An owner who has not swept for longer than an
-- outage lasts, whoever it was, means that heartbeats may have been lost: then no lease is judged for one more lease.
--
-- KEYS sweeper of each partition
-- ARGV 1 node, 2 life of an ownership ms, 3 outage ms, 4 lease ms, then for each partition 1 = wanted, 0 = give up
-- Returns { positions in KEYS (from 1) that the node now owns }, { those whose judgement is put off by an outage } and
-- { the epoch of each partition }: another epoch than before means that the partition's data went.

local node, life, outage, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local owned, outages, epochs = {}, {}, {}
for position, sweeper_key in ipairs(KEYS) do
  local owner, owned_until, swept, epoch =
    unpack(redis.call('HMGET', sweeper_key, 'owner', 'until', 'swept', 'epoch'))
  local is_mine = owner == node
  if not epoch then
    epoch = string.format('%.0f', time[1] * 1000000 + time[2])
    swept = string.format('%.0f', now)
    redis.call('HSET', sweeper_key, 'epoch', epoch, 'swept', swept)
  end
  epochs[position] = epoch
  if ARGV[4 + position] == '0' then
    if is_mine then redis.call('HSET', sweeper_key, 'owner', '') end
  elseif is_mine or not owner or owner == '' or tonumber(owned_until) < now then
    if swept and now - tonumber(swept) > outage then
      redis.call('HSET', sweeper_key, 'judge', string.format('%.0f', now + ttl))
      outages[#outages + 1] = position
    end
    redis.call('HSET', sweeper_key, 'owner', node, 'until', string.format('%.0f', now + life),
      'swept', string.format('%.0f', now))
    owned[#owned + 1] = position
  end
end
return { owned, outages, epochs }
