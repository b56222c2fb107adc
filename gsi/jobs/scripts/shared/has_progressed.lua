-- Returns whether a job has kept a step since its last attempt began. Such an attempt is not held against the job: a job
-- that is at fault fails at the same step each time.
local function has_progressed(record)
  local steps = redis.call('HMGET', record, 'num_steps', 'attempt_began_at_step')
  return tonumber(steps[1] or 0) > tonumber(steps[2] or steps[1] or 0)
end
