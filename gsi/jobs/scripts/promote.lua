-- Pushes a job again whose delay is over.
-- Returns 1 if this call pushed the job; 0 if another call has, or the job does not wait any more.
-- shared: may_move, push_again

local record, lane, delayed = KEYS[1], KEYS[2], KEYS[3]
local job_id, payload_field = ARGV[1], ARGV[2]
local queued, moves = ARGV[3], ARGV[4]

if redis.call('ZREM', delayed, job_id) == 0 then return 0 end
local payload = redis.call('HGET', record, 'payload')
if not payload or not may_move(moves, redis.call('HGET', record, 'state') or '', queued) then return 0 end
if redis.call('HEXISTS', record, 'entry_id') == 1 then return 0 end  -- an entry stands for the job already
push_again(record, lane, job_id, payload_field, payload)
return 1
