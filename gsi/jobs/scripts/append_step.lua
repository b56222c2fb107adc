-- Keeps a step: index counts from 0, and step index k follows k kept steps.
-- Returns 1 if the step is kept, also by an earlier call with this token (the call was sent twice); 0 if the lease was
-- lost.

local record, steps = KEYS[1], KEYS[2]
local token, index, step = ARGV[1], tonumber(ARGV[2]), ARGV[3]

if redis.call('HGET', record, 'token') ~= token then return 0 end
local length = redis.call('XLEN', steps)
if length == index then
  redis.call('XADD', steps, '*', 'step', step, 'token', token)
  redis.call('HSET', record, 'num_steps', length + 1)
  return 1
end
if length == index + 1 then
  local last = redis.call('XREVRANGE', steps, '+', '-', 'COUNT', 1)[1][2]
  if last[4] == token then return 1 end
end
return redis.error_reply('step ' .. index .. ' does not follow the ' .. length .. ' kept steps')
