-- Writes a job's record and pushes its payload.
-- Returns the job's id, or the id of the earlier job that has this id or this idempotency key. If the queue is full,
-- returns how many jobs it has, as a number. Returns nil, and does nothing, if the idempotency key does not lead to
-- the job earlier ('': to none) any more. An earlier job that is deleted counts as none. idempotency_ms is the lifetime
-- of the idempotency key; 0: the job has none.
-- shared: may_move

local record, lane, steps, config, delayed, idempotency = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local earlier_record = KEYS[7]
local lanes = {unpack(KEYS, 8)}
local job_id, tenant, payload, payload_field = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local idempotency_ms, earlier = tonumber(ARGV[5]), ARGV[6]
local queued, moves = ARGV[7], ARGV[8]

if not may_move(moves, redis.call('HGET', record, 'state') or '', queued) then return job_id end
if idempotency_ms > 0 then
  if (redis.call('GET', idempotency) or '') ~= earlier then return false end
  if earlier ~= '' and redis.call('EXISTS', earlier_record) == 1 then return earlier end
end
local max_jobs = redis.call('HGET', config, 'max_jobs')
if max_jobs then
  local num_jobs = redis.call('ZCARD', delayed)
  for _, each in ipairs(lanes) do num_jobs = num_jobs + redis.call('XLEN', each) end
  if num_jobs >= tonumber(max_jobs) then
    redis.call('HINCRBY', config, 'refused', 1)
    return num_jobs
  end
end
redis.call('DEL', steps)  -- none of a former job of this id
local entry = redis.call('XADD', lane, '*', payload_field, payload)
redis.call('HSET', record, 'state', queued, 'payload', payload, 'tenant', tenant, 'lane', lane)
redis.call('HSET', record, 'entry_id', entry, 'submitted_at', string.match(entry, '%d+'))
if idempotency_ms > 0 then redis.call('SET', idempotency, job_id, 'PX', idempotency_ms) end
return job_id
