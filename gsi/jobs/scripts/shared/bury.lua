-- Writes why a job is dead to its record and to the dead letters.
local function bury(record, dead_letters, job_id, reason, error, max_dead)
  redis.call('HSET', record, 'error', reason .. ': ' .. error, 'dead_reason', reason, 'last_error', error)
  redis.call('XADD', dead_letters, 'MAXLEN', '~', max_dead, '*', 'id', job_id, 'reason', reason, 'error', error)
end
