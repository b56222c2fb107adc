-- Puts a job off after a failed run. Buries it if it has been tried often enough, and ends it if it was to be cancelled.
-- Its kept steps stay. counts 0: the run was no attempt, because this release cannot read the job; the job is never buried,
-- and its record notes when that happened first, and how often.
-- Returns the job's state, also for a call that was sent twice; nil if the lease was lost.
-- shared: now, may_move, holds, acknowledge, release, finish, expire, bury

local record, lane, steps, results, tenants = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local dead_letters, delayed = KEYS[6], KEYS[7]
local job_id, token, nonce, entry, error = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local delay_ms, max_attempts, dead_ms = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local counts = ARGV[9] == '1'
local group, max_results, max_dead = ARGV[10], ARGV[11], ARGV[12]
local queued, dead, cancelled, moves = ARGV[13], ARGV[14], ARGV[15], ARGV[16]

if not holds(record, token, nonce) then return false end
local state = redis.call('HGET', record, 'state')
local attempts_held = tonumber(redis.call('HGET', record, 'attempts_held'))
local cancel_reason = redis.call('HGET', record, 'cancel_reason')
local after = queued
if counts and attempts_held >= max_attempts then after = dead end
if cancel_reason then after = cancelled end
if not may_move(moves, state, after) then return state end

redis.call('HSET', record, 'last_error', error)
if not counts then
  redis.call('HINCRBY', record, 'attempt', -1)
  redis.call('HINCRBY', record, 'attempts_held', -1)
  redis.call('HSETNX', record, 'put_back_at', now())
  redis.call('HINCRBY', record, 'put_back', 1)
end
if after == queued then
  release(record, tenants)
  redis.call('HSET', record, 'state', queued)
  redis.call('HDEL', record, 'entry_id')
  redis.call('ZADD', delayed, now() + delay_ms, job_id)
  acknowledge(lane, group, entry)
  return after
end
local lifetime_ms = dead_ms
if after == dead then
  bury(record, dead_letters, job_id, 'tried ' .. max_attempts .. ' times', error, max_dead)
else
  lifetime_ms = redis.call('HGET', record, 'lifetime') or dead_ms
  redis.call('HSET', record, 'error', cancel_reason)
end
finish(record, results, tenants, job_id, after, max_results)
acknowledge(lane, group, entry)
expire(record, steps, lifetime_ms)
return after
