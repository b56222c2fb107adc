-- Notes that a coordinator which reads payloads up to a format is at work, unless a newer one was seen within the window.
-- Returns 1 if a newer one was seen; 0 if not.
-- shared: now

local config = KEYS[1]
local payload_format, window_ms = tonumber(ARGV[1]), tonumber(ARGV[2])

local seen = redis.call('HMGET', config, 'newest_format', 'newest_format_at')
local age_ms = now() - tonumber(seen[2] or 0)
if tonumber(seen[1] or 0) > payload_format and age_ms <= window_ms then return 1 end
redis.call('HSET', config, 'newest_format', payload_format, 'newest_format_at', now())
return 0
