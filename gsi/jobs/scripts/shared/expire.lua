-- Lets a finished job's record and steps expire together.
local function expire(record, steps, lifetime_ms)
  redis.call('PEXPIRE', record, lifetime_ms)
  redis.call('PEXPIRE', steps, lifetime_ms)
end
