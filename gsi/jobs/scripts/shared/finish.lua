-- Ends a job in a state, frees its tenant's place and announces the end. The caller acknowledges the entry after that.
local function finish(record, results, tenants, job_id, state, max_results)
  release(record, tenants)
  redis.call('HSET', record, 'state', state, 'finished_at', now())
  redis.call('XADD', results, 'MAXLEN', '~', max_results, '*', 'id', job_id, 'state', state)
end
