-- Returns the ids of up to limit jobs whose delay is over. No delay is longer than max_delay_ms: a job that is due later
-- than that was put off before the server's clock was set back, and is due now.
-- shared: now

local delayed = KEYS[1]
local limit, max_delay_ms = tonumber(ARGV[1]), tonumber(ARGV[2])

local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', now(), 'LIMIT', 0, limit)
local misdated = redis.call('ZRANGEBYSCORE', delayed, '(' .. now() + max_delay_ms, '+inf', 'LIMIT', 0, limit - #due)
for _, job_id in ipairs(misdated) do due[#due + 1] = job_id end
return due
