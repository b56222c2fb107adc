-- Returns whether a job has kept a step since its last attempt began. If its coordinator was lost after that, the attempt
-- is not held against the job: a job that ends its coordinators does so at the same step each time.
local function has_progressed(record)
  local steps = redis.call('HMGET', record, 'num_steps', 'attempt_began_at_step')
  return tonumber(steps[1] or 0) > tonumber(steps[2] or steps[1] or 0)
end
