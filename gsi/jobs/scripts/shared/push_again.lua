-- Adds a job to its lane again; the new entry stands for the job. The entry's field id names the job, because a payload
-- that a bare XADD pushed may not. Returns the entry.
local function push_again(record, lane, job_id, payload_field, payload)
  local entry = redis.call('XADD', lane, '*', payload_field, payload, 'id', job_id)
  redis.call('HSET', record, 'entry_id', entry)
  return entry
end
