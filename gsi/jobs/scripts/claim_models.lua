-- Replaces the models of a queue, if they are still those that its caller has read ('': none).
-- Returns 1 if they were replaced; 0 if somebody else has changed them meanwhile.

local config = KEYS[1]
local noted, models = ARGV[1], ARGV[2]

if (redis.call('HGET', config, 'models') or '') ~= noted then return 0 end
redis.call('HSET', config, 'models', models)
return 1
