-- Removes a consumer of a lane that holds no entry.
-- Returns 1 if the consumer is gone; 0 if it holds an entry: with the consumer the server would forget who is to run it.

local lane = KEYS[1]
local consumer, group = ARGV[1], ARGV[2]

if #redis.call('XPENDING', lane, group, '-', '+', 1, consumer) > 0 then return 0 end
redis.call('XGROUP', 'DELCONSUMER', lane, group, consumer)
return 1
