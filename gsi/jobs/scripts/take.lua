-- Makes a consumer the job's only writer.
-- Returns {token, attempt, age in ms, time of submission in ms}; nil if there is nothing to run: the job has finished,
-- another entry stands for it, it has been taken too often and is dead now, or its tenant has enough jobs in flight
-- and it is parked. max_in_flight 0: no limit. A job that was pushed by a bare XADD gets its record here.
-- shared: now, may_move, acknowledge, release, finish, expire, bury

local record, lane, steps, results, tenants = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local dead_letters, parked, parked_tenants = KEYS[6], KEYS[7], KEYS[8]
local job_id, entry, consumer, tenant = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local max_attempts, max_in_flight, dead_ms = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local group, payload_field, max_results, max_dead = ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local running, queued, dead, moves = ARGV[12], ARGV[13], ARGV[14], ARGV[15]

local state = redis.call('HGET', record, 'state') or ''
local current = redis.call('HGET', record, 'entry_id')
local may_run = may_move(moves, state, running)
if not may_run or (current and current ~= entry) then
  acknowledge(lane, group, entry)
  if not may_run and current == entry and redis.call('PTTL', record) == -1 then  -- cancelled before it was delivered
    expire(record, steps, redis.call('HGET', record, 'lifetime') or dead_ms)
  end
  return false
end

redis.call('HSET', record, 'entry_id', entry, 'lane', lane, 'tenant', tenant)
redis.call('HSETNX', record, 'submitted_at', string.match(entry, '%d+'))
if redis.call('HEXISTS', record, 'payload') == 0 then
  local fields = redis.call('XRANGE', lane, entry, entry)[1][2]
  for i = 1, #fields, 2 do
    if fields[i] == payload_field then redis.call('HSET', record, 'payload', fields[i + 1]) end
  end
end

-- A redelivery is in flight already, and a job that unpark.lua has pushed has its place reserved.
if may_move(moves, state, queued) and redis.call('HDEL', record, 'reserved') == 0 then
  local in_flight = tonumber(redis.call('HGET', tenants, tenant) or 0)
  if max_in_flight > 0 and in_flight >= max_in_flight then
    redis.call('HSET', record, 'state', queued)
    redis.call('HDEL', record, 'entry_id')
    redis.call('RPUSH', parked, job_id)
    redis.call('SADD', parked_tenants, tenant)
    acknowledge(lane, group, entry)
    return false
  end
  redis.call('HINCRBY', tenants, tenant, 1)
end

local attempt = redis.call('HINCRBY', record, 'attempt', 1)
redis.call('HSET', record, 'worker', consumer)
if attempt > max_attempts and may_move(moves, state, dead) then
  local error = redis.call('HGET', record, 'last_error') or 'its coordinator was lost each time'
  redis.call('HSET', record, 'attempt', max_attempts)
  bury(record, dead_letters, job_id, 'taken ' .. max_attempts .. ' times', error, max_dead)
  release(record, tenants)
  finish(record, results, job_id, dead, max_results)
  acknowledge(lane, group, entry)
  expire(record, steps, dead_ms)
  return false
end

local token = redis.call('HINCRBY', record, 'token', 1)
redis.call('HSET', record, 'state', running)
redis.call('HSETNX', record, 'started_at', now())
local submitted_ms = tonumber(redis.call('HGET', record, 'submitted_at'))
return {token, attempt, now() - submitted_ms, submitted_ms}
