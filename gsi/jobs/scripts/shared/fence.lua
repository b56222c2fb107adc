-- Gives a job to the writer of a nonce and shuts out every writer before it; returns the fencing token. Tokens are counted
-- for the whole queue, so that no token of a deleted job comes back. A record of an older version may be ahead.
local function fence(record, config, nonce)
  local token = redis.call('HINCRBY', config, 'last_token', 1)
  local last = tonumber(redis.call('HGET', record, 'token') or 0)
  if token <= last then
    token = last + 1
    redis.call('HSET', config, 'last_token', token)
  end
  redis.call('HSET', record, 'token', token, 'nonce', nonce)
  return token
end
