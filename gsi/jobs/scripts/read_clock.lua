-- Returns the server's time in milliseconds since 1970. The key only names the server: on Cluster each has its own clock.
-- shared: now

local key = KEYS[1]

return now()
