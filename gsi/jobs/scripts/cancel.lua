-- Cancels a job that waits, and asks a running job to stop.
-- Returns the state that the job was in: '' for a job without a record, which is marked so that its entry is dropped
-- when it comes; nil if there is no record and the job cannot be unseen; 0 if parked is not the list of the job's tenant
-- any more, and nothing was done.
-- The entry of a job that waits stays until it is delivered, and take.lua drops it then: if an undelivered entry is
-- deleted, the server no longer knows the group's lag.
-- shared: now, may_move, release, finish, expire, leave_parked

local record, steps, results, tenants, delayed = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local parked, parked_tenants = KEYS[6], KEYS[7]
local job_id, tenant, reason, may_be_unseen, lifetime_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5]
local max_results = ARGV[6]
local cancelled, moves, moves_of_commit = ARGV[7], ARGV[8], ARGV[9]

local state = redis.call('HGET', record, 'state') or ''
if state == '' and not may_be_unseen then return false end
if state ~= '' and (redis.call('HGET', record, 'tenant') or tenant) ~= tenant then return 0 end
if may_move(moves, state, cancelled) then
  redis.call('ZREM', delayed, job_id)
  leave_parked(parked, parked_tenants, tenant, job_id)
  redis.call('HSET', record, 'error', reason, 'lifetime', lifetime_ms)
  finish(record, results, tenants, job_id, cancelled, max_results)
  if redis.call('HEXISTS', record, 'entry_id') == 0 then expire(record, steps, lifetime_ms) end
elseif may_move(moves_of_commit, state, cancelled) then  -- its run commits that it was cancelled
  redis.call('HSETNX', record, 'cancel_reason', reason)
  redis.call('HSETNX', record, 'lifetime', lifetime_ms)
end
return state
