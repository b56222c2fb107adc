-- Keeps a step: index counts from 0, and step index k follows k kept steps. fields: of the record, as name, value, …
-- Returns 1 if the step is kept, also by an earlier call with this token (the call was sent twice); 0 if the lease was
-- lost, or the job does not run any more.
-- shared: holds

local record, steps = KEYS[1], KEYS[2]
local token, nonce, index, step = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local running = ARGV[5]
local fields = {unpack(ARGV, 6)}

if not holds(record, token, nonce) or redis.call('HGET', record, 'state') ~= running then return 0 end
local length = redis.call('XLEN', steps)
if length == index then
  redis.call('XADD', steps, '*', 'step', step, 'token', token)
  redis.call('HSET', record, 'num_steps', length + 1, unpack(fields))
  return 1
end
if length == index + 1 then
  local last = redis.call('XREVRANGE', steps, '+', '-', 'COUNT', 1)[1][2]
  if last[4] == token then return 1 end
end
return redis.error_reply('step ' .. index .. ' does not follow the ' .. length .. ' kept steps')
