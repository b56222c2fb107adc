-- Makes a consumer the job's only writer, if the consumer holds the entry that stands for the job.
-- Returns {token, attempt, age in ms, time of submission in ms}, also for a call that was sent twice; nil if there is
-- nothing to run: the entry is another consumer's now or is gone, the job has finished or waits elsewhere, another entry
-- stands for it, it was to be cancelled, it has been taken too often and is dead now, or its tenant has enough jobs in
-- flight and it is parked. max_in_flight 0: no limit. A job that was pushed by a bare XADD gets its record here.
-- shared: now, may_move, fence, has_progressed, acknowledge, occupy, release, finish, expire, bury

local record, lane, steps, results, tenants = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local dead_letters, parked, parked_tenants, config = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local job_id, entry, consumer, nonce, tenant = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local max_attempts, max_in_flight, dead_ms = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local group, payload_field, max_results, max_dead = ARGV[9], ARGV[10], ARGV[11], ARGV[12]
local running, queued, dead, cancelled, moves = ARGV[13], ARGV[14], ARGV[15], ARGV[16], ARGV[17]

local function answer(token, attempt)
  local submitted_ms = tonumber(redis.call('HGET', record, 'submitted_at'))
  return {token, attempt, math.max(0, now() - submitted_ms), submitted_ms}
end

-- A stalled call may come when another consumer has taken the entry over, and has put the job off or ended it.
if #redis.call('XPENDING', lane, group, entry, entry, 1, consumer) == 0 then return false end
local found = redis.call('XRANGE', lane, entry, entry)
if #found == 0 then  -- trimmed or deleted by somebody
  redis.call('XACK', lane, group, entry)
  return false
end
local state = redis.call('HGET', record, 'state') or ''
local current = redis.call('HGET', record, 'entry_id')
-- A queued job without an entry is delayed or parked: a second entry for its id changes nothing.
if not may_move(moves, state, running) or (state ~= '' and current ~= entry) then
  acknowledge(lane, group, entry)
  if current == entry and redis.call('PTTL', record) == -1 then  -- cancelled before it was delivered
    expire(record, steps, redis.call('HGET', record, 'lifetime') or dead_ms)
  end
  return false
end
if state == running and redis.call('HGET', record, 'nonce') == nonce then  -- the call was sent twice
  return answer(tonumber(redis.call('HGET', record, 'token')), tonumber(redis.call('HGET', record, 'attempt')))
end

if state == '' then
  redis.call('DEL', steps)  -- none of a former job of this id
  redis.call('HSET', record, 'entry_id', entry, 'lane', lane, 'tenant', tenant)
  redis.call('HSET', record, 'submitted_at', string.match(entry, '%d+'))
  local fields = found[1][2]
  for i = 1, #fields, 2 do
    if fields[i] == payload_field then redis.call('HSET', record, 'payload', fields[i + 1]) end
  end
end

-- A redelivery is in flight already, and a job that unpark.lua has pushed has its place reserved.
if may_move(moves, state, queued) and redis.call('HEXISTS', record, 'reserved') == 0 then
  local in_flight = tonumber(redis.call('HGET', tenants, tenant) or 0)
  if max_in_flight > 0 and in_flight >= max_in_flight then
    redis.call('HSET', record, 'state', queued)
    redis.call('HDEL', record, 'entry_id')
    redis.call('RPUSH', parked, job_id)
    redis.call('SADD', parked_tenants, tenant)
    acknowledge(lane, group, entry)
    return false
  end
  occupy(record, tenants, tenant)
end
redis.call('HSET', record, 'reserved', 1)  -- a coordinator of an older version counted a redelivery without this mark

redis.call('HSETNX', record, 'attempts_held', redis.call('HGET', record, 'attempt') or 0)
if state == running and has_progressed(record) then redis.call('HINCRBY', record, 'attempts_held', -1) end
local attempt = redis.call('HINCRBY', record, 'attempt', 1)
local attempts_held = redis.call('HINCRBY', record, 'attempts_held', 1)
redis.call('HSET', record, 'worker', consumer, 'attempt_began_at_step', redis.call('HGET', record, 'num_steps') or 0)
local cancel_reason = redis.call('HGET', record, 'cancel_reason')
local ending = (cancel_reason and cancelled) or (attempts_held > max_attempts and dead)
if ending and may_move(moves, state, ending) then
  local lifetime_ms = dead_ms
  if ending == dead then
    local error = redis.call('HGET', record, 'last_error') or 'its coordinator was lost each time'
    redis.call('HSET', record, 'attempt', attempt - 1)
    bury(record, dead_letters, job_id, 'taken ' .. max_attempts .. ' times', error, max_dead)
  else
    lifetime_ms = redis.call('HGET', record, 'lifetime') or dead_ms
    redis.call('HSET', record, 'error', cancel_reason)
  end
  fence(record, config, '')  -- nobody writes the job any more
  finish(record, results, tenants, job_id, ending, max_results)
  acknowledge(lane, group, entry)
  expire(record, steps, lifetime_ms)
  return false
end

local token = fence(record, config, nonce)
redis.call('HSET', record, 'state', running)
redis.call('HSETNX', record, 'started_at', now())
return answer(token, attempt)
