-- Writes the records of jobs and pushes their payloads, in the order given; stops at the first that it cannot push now.
-- Returns the id of each job that it pushed, or the id of the earlier job that has its id or its idempotency key. If it
-- stops, its reason comes last: how many jobs the queue has, which is full; -1, if the job's idempotency key does not
-- lead to the job earlier ('': to none) any more; -2, if the earlier job that has its id has another payload, by its
-- digest; or an error. An earlier job that is deleted counts as none. A job pushed by a bare XADD has no digest.
-- job_keys has five keys of each job: record, lane, steps, idempotency key, record of the job earlier; job_values has
-- six values: id, tenant, payload, lifetime of the idempotency key in ms (0: the job has none), id of the job earlier,
-- digest of the payload.
-- shared: may_move

local config, delayed, high, normal, low = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local job_keys = {unpack(KEYS, 6)}
local payload_field, queued, moves = ARGV[1], ARGV[2], ARGV[3]
local job_values = {unpack(ARGV, 4)}

local max_jobs, num_jobs = redis.call('HGET', config, 'max_jobs'), 0
if max_jobs then
  num_jobs = redis.call('ZCARD', delayed)
  for _, lane in ipairs({high, normal, low}) do num_jobs = num_jobs + redis.call('XLEN', lane) end
end

local function push(number)
  local record, lane, steps, idempotency, earlier_record = unpack(job_keys, 5 * number + 1, 5 * number + 5)
  local job_id, tenant, payload, idempotency_ms, earlier, digest = unpack(job_values, 6 * number + 1, 6 * number + 6)
  local has_key, state = idempotency_ms ~= '0', redis.pcall('HGET', record, 'state') or ''
  if type(state) == 'table' then return state end  -- an error: the key of the job's name is no record
  if not may_move(moves, state, queued) then
    return (redis.call('HGET', record, 'digest') or digest) == digest and job_id or -2
  end
  if has_key then
    if (redis.call('GET', idempotency) or '') ~= earlier then return -1 end
    if earlier ~= '' and redis.call('EXISTS', earlier_record) == 1 then return earlier end
  end
  if max_jobs and num_jobs >= tonumber(max_jobs) then
    redis.call('HINCRBY', config, 'refused', 1)
    return num_jobs
  end
  redis.call('DEL', steps)  -- none of a former job of this id
  local entry = redis.call('XADD', lane, '*', payload_field, payload)
  redis.call('HSET', record, 'state', queued, 'payload', payload, 'tenant', tenant, 'lane', lane, 'entry_id', entry,
    'submitted_at', string.match(entry, '%d+'), 'digest', digest)
  if has_key then redis.call('SET', idempotency, job_id, 'PX', idempotency_ms) end
  num_jobs = num_jobs + 1
  return job_id
end

local answers = {}
for number = 0, #job_keys / 5 - 1 do
  local answer = push(number)
  answers[#answers + 1] = answer
  if type(answer) ~= 'string' then break end
end
return answers
