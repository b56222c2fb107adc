-- Puts a job off after a failed run; buries it if it has been tried often enough. Its kept steps stay.
-- Returns the job's state, also for a call that was sent twice; nil if the lease was lost.
-- shared: now, may_move, acknowledge, release, finish, expire, bury

local record, lane, steps, results, tenants = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local dead_letters, delayed = KEYS[6], KEYS[7]
local job_id, token, entry, error = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local delay_ms, max_attempts, dead_ms = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local group, max_results, max_dead = ARGV[8], ARGV[9], ARGV[10]
local queued, dead, moves = ARGV[11], ARGV[12], ARGV[13]

if redis.call('HGET', record, 'token') ~= token then return false end
local state = redis.call('HGET', record, 'state')
if redis.call('HGET', record, 'entry_id') ~= entry then return state end
local is_last = tonumber(redis.call('HGET', record, 'attempt')) >= max_attempts
local after = is_last and dead or queued
if not may_move(moves, state, after) then return state end

redis.call('HSET', record, 'last_error', error)
release(record, tenants)
if is_last then
  bury(record, dead_letters, job_id, 'tried ' .. max_attempts .. ' times', error, max_dead)
  finish(record, results, job_id, dead, max_results)
  acknowledge(lane, group, entry)
  expire(record, steps, dead_ms)
else
  redis.call('HSET', record, 'state', queued)
  redis.call('HDEL', record, 'entry_id')
  redis.call('ZADD', delayed, now() + delay_ms, job_id)
  acknowledge(lane, group, entry)
end
return after
