-- Deletes a dead letter, and its job with the steps unless the job is not dead any more.
-- Returns how many letters were deleted: 1 or 0.
-- shared: may_move

local record, steps, dead_letters = KEYS[1], KEYS[2], KEYS[3]
local letter, moves = ARGV[1], ARGV[2]

if may_move(moves, redis.call('HGET', record, 'state') or '', '') then redis.call('DEL', record, steps) end
return redis.call('XDEL', dead_letters, letter)
