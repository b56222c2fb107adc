-- Takes an entry off the group's pending list, and frees it.
local function acknowledge(lane, group, entry)
  redis.call('XACK', lane, group, entry)
  redis.call('XDEL', lane, entry)
end
