-- Sets the idle time of a held entry: 0 renews the lease; the lease's length hands the job back, and the attempt is then
-- not counted. JUSTID leaves the entry's count of deliveries as it is.
-- Returns why the job is to be cancelled ('': it is not); nil if the lease was lost.
-- shared: holds

local record, lane = KEYS[1], KEYS[2]
local token, nonce, entry, consumer, idle_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local group = ARGV[6]
local running = ARGV[7]

if not holds(record, token, nonce) then return false end
local pending = redis.call('XPENDING', lane, group, entry, entry, 1)
if #pending == 0 then  -- acknowledged: by our own commit, whose answer is on its way, or by a call that we do not know
  return redis.call('HGET', record, 'state') ~= running and ''
end
if pending[1][2] ~= consumer then return false end
redis.call('XCLAIM', lane, group, consumer, 0, entry, 'IDLE', idle_ms, 'JUSTID')
if idle_ms > 0 and redis.call('HGET', record, 'handed_back') ~= token then  -- else the call was sent twice
  redis.call('HINCRBY', record, 'attempt', -1)
  redis.call('HINCRBY', record, 'attempts_held', -1)
  redis.call('HSET', record, 'handed_back', token)
end
return redis.call('HGET', record, 'cancel_reason') or ''
