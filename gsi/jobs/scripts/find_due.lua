-- Returns the ids of up to limit jobs whose delay is over.
-- shared: now

local delayed = KEYS[1]
local limit = ARGV[1]

return redis.call('ZRANGEBYSCORE', delayed, '-inf', now(), 'LIMIT', 0, limit)
