-- Put before the scripts that go by a partition's `swept`: when any node last asked for the partition. Every node does so
-- five times a second, so a time further away tells of the engine: it was away or stood still, or its clock was stepped.

local BACK_MS = 1000

-- What came between `swept` and now, noted for the judge. 'outage': longer than one lasts, or a step forward; then no lease
-- is judged for one more lease, and no disconnect grace that began before ends before its length from now. 'back': a step
-- back, which rebase.lua makes up for. Else nil.
local function note_gap(sweeper_key, swept, now, outage, ttl)
  local gap = swept and now - tonumber(swept) or 0
  if gap > outage then
    redis.call('HSET', sweeper_key, 'swept', text(now), 'judge', text(now + ttl), 'resumed', text(now))
    redis.call('HDEL', sweeper_key, 'back')
    return 'outage'
  end
  if gap >= -BACK_MS then return nil end
  local back, judge, resumed = unpack(redis.call('HMGET', sweeper_key, 'back', 'judge', 'resumed'))
  redis.call('HSET', sweeper_key, 'swept', text(now), 'back', text((back or 0) - gap),
    'judge', text((judge or 0) + gap), 'resumed', text((resumed or 0) + gap))
  return 'back'
end
