-- Frees an entry that cannot be taken, with a dead letter that says why.
-- Returns 1 if the entry is freed; 0 if it is another consumer's.
-- shared: acknowledge

local lane, dead_letters = KEYS[1], KEYS[2]
local job_id, entry, consumer, error = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local group, max_dead = ARGV[5], ARGV[6]

if #redis.call('XPENDING', lane, group, entry, entry, 1, consumer) == 0 then return 0 end
redis.call('XADD', dead_letters, 'MAXLEN', '~', max_dead, '*', 'id', job_id, 'reason', 'cannot be taken', 'error', error)
acknowledge(lane, group, entry)
return 1
