-- Ends a job in a state and announces the end. The caller acknowledges the entry after that.
local function finish(record, results, job_id, state, max_results)
  redis.call('HSET', record, 'state', state, 'finished_at', now())
  redis.call('XADD', results, 'MAXLEN', '~', max_results, '*', 'id', job_id, 'state', state)
end
