-- Finds an entry that no coordinator will be given: delivered once, and on no pending list. Its job, if it has no record,
-- is pushed again.
-- Returns 1 if the entry was such; else 0.
-- shared: is_deliverable

local record, lane = KEYS[1], KEYS[2]
local entry, repair = ARGV[1], ARGV[2] == '1'
local group = ARGV[3]

local found = redis.call('XRANGE', lane, entry, entry)
if #found == 0 or is_deliverable(lane, group, entry) then return 0 end
if redis.call('EXISTS', record) == 1 and redis.call('HGET', record, 'entry_id') == entry then return 0 end
if repair then
  redis.call('XDEL', lane, entry)
  if redis.call('EXISTS', record) == 0 then redis.call('XADD', lane, '*', unpack(found[1][2])) end
end
return 1
