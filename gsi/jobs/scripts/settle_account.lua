-- Counts the tokens of a request against its key, once: whoever comes second finds no account. A revoked key has no
-- record, and none is made.
-- Returns 1 if the account was open until now.

local accounts, record = KEYS[1], KEYS[2]
local request, num_tokens = ARGV[1], ARGV[2]

if redis.call('HDEL', accounts, request) == 0 then return 0 end
if redis.call('HEXISTS', record, 'key') == 1 then redis.call('HINCRBY', record, 'spent', num_tokens) end
return 1
