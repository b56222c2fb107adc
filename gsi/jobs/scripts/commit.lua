-- Ends a job: writes its result, announces it, acknowledges its entry. The entry goes last, so that a crash before leaves
-- the job to be delivered again. fields: of the record, as name, value, …
-- Returns 1 if the job has ended so, also by an earlier call with this token (the call was sent twice); 0 if the lease
-- was lost.
-- shared: now, may_move, acknowledge, release, finish, expire

local record, lane, steps, results, tenants = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local job_id, token, entry, lifetime_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local group, max_results = ARGV[5], ARGV[6]
local ending, moves = ARGV[7], ARGV[8]
local fields = {unpack(ARGV, 9)}

if redis.call('HGET', record, 'token') ~= token then return 0 end
local state = redis.call('HGET', record, 'state')
if not may_move(moves, state, ending) then return state == ending and 1 or 0 end
redis.call('HSET', record, unpack(fields))
redis.call('HDEL', record, 'payload')  -- only a job that may be pushed again needs it
release(record, tenants)
finish(record, results, job_id, ending, max_results)
acknowledge(lane, group, entry)
expire(record, steps, lifetime_ms)
return 1
