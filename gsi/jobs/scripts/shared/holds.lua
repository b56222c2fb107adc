-- Returns whether a caller is the job's writer: the last one that took the job. The nonce tells two writers with one
-- token apart, which there are if the server lost its last writes and then counted on from an older token.
local function holds(record, token, nonce)
  local last = redis.call('HMGET', record, 'token', 'nonce')
  return last[1] == token and last[2] == nonce
end
