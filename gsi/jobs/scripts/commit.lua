-- Ends a job: writes its result, announces it, acknowledges its entry. The entry goes last, so that a crash before leaves
-- the job to be delivered again. fields: of the record, as name, value, …
-- Returns 1 if the job has ended so, also by an earlier call with this token (the call was sent twice); 0 if the lease
-- was lost.
-- shared: now, may_move, holds, acknowledge, release, finish, expire

local record, lane, steps, results, tenants = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local job_id, token, nonce, entry, lifetime_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local group, max_results = ARGV[6], ARGV[7]
local ending, moves, max_payload_bytes = ARGV[8], ARGV[9], tonumber(ARGV[10])
local fields = {unpack(ARGV, 11)}

if not holds(record, token, nonce) then return 0 end
local state = redis.call('HGET', record, 'state')
if not may_move(moves, state, ending) then return state == ending and 1 or 0 end
redis.call('HSET', record, unpack(fields))
redis.call('HDEL', record, 'prompt')  -- only a job that may be pushed again needs its tokens
-- Who looks at the job later wants to read its question, but no finished job may fill the server by it.
if redis.call('HSTRLEN', record, 'payload') > max_payload_bytes then redis.call('HDEL', record, 'payload') end
finish(record, results, tenants, job_id, ending, max_results)
acknowledge(lane, group, entry)
expire(record, steps, lifetime_ms)
return 1
