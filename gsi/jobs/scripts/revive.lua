-- Pushes a dead job again, as if it were new but for its kept steps. letters: its entries among the dead letters.
-- Returns 1 if the job was pushed; 0 if it is not dead.
-- shared: may_move, push_again

local record, lane, steps, dead_letters = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local job_id, payload_field = ARGV[1], ARGV[2]
local queued, moves = ARGV[3], ARGV[4]
local letters = {unpack(ARGV, 5)}

if not may_move(moves, redis.call('HGET', record, 'state') or '', queued) then return 0 end
local payload = redis.call('HGET', record, 'payload')
local entry = push_again(record, lane, job_id, payload_field, payload)
redis.call('HSET', record, 'state', queued, 'attempt', 0, 'attempts_held', 0)
redis.call('HSET', record, 'submitted_at', string.match(entry, '%d+'))
redis.call('HDEL', record, 'error', 'dead_reason', 'last_error', 'cancel_reason', 'lifetime', 'started_at', 'finished_at')
redis.call('PERSIST', record)
redis.call('PERSIST', steps)
for _, letter in ipairs(letters) do redis.call('XDEL', dead_letters, letter) end
return 1
