-- Returns the server's time in milliseconds since 1970, as the ids of stream entries have it.
local function now()
  local time = redis.call('TIME')
  return string.format('%d%03d', time[1], math.floor(time[2] / 1000))
end
