-- Returns whether a consumer holds an entry or will be given it: it exists, and is pending or was not delivered yet.
local function is_deliverable(lane, group, entry)
  if #redis.call('XRANGE', lane, entry, entry) == 0 then return false end
  for _, each in ipairs(redis.call('XINFO', 'GROUPS', lane)) do
    local fields = {}
    for i = 1, #each, 2 do fields[each[i]] = each[i + 1] end
    if fields['name'] == group then
      if #redis.call('XPENDING', lane, group, entry, entry, 1) > 0 then return true end
      return #redis.call('XRANGE', lane, '(' .. fields['last-delivered-id'], entry, 'COUNT', 1) > 0
    end
  end
  return true  -- the group was lost; it is made again, and reads from the lane's beginning
end
