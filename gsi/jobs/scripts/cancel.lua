-- Cancels a job that waits, and asks a running job to stop.
-- Returns the state that the job was in: '' for a job without a record, which is marked so that its entry is dropped
-- when it comes; nil if there is no record and the job cannot be unseen.
-- The entry of a job that waits stays until it is delivered, and take.lua drops it then: if an undelivered entry is
-- deleted, the server no longer knows the group's lag.
-- shared: now, may_move, release, finish, expire

local record, steps, results, tenants, delayed, parked = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local job_id, reason, may_be_unseen, lifetime_ms = ARGV[1], ARGV[2], ARGV[3] == '1', ARGV[4]
local max_results = ARGV[5]
local cancelled, moves, moves_of_commit = ARGV[6], ARGV[7], ARGV[8]

local state = redis.call('HGET', record, 'state') or ''
if state == '' and not may_be_unseen then return false end
if may_move(moves, state, cancelled) then
  redis.call('ZREM', delayed, job_id)
  redis.call('LREM', parked, 1, job_id)
  if redis.call('HDEL', record, 'reserved') == 1 then release(record, tenants) end
  redis.call('HSET', record, 'error', reason, 'lifetime', lifetime_ms)
  finish(record, results, job_id, cancelled, max_results)
  if redis.call('HEXISTS', record, 'entry_id') == 0 then expire(record, steps, lifetime_ms) end
elseif may_move(moves_of_commit, state, cancelled) then  -- its run commits that it was cancelled
  redis.call('HSETNX', record, 'cancel_reason', reason)
end
return state
