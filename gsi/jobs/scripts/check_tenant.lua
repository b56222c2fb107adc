-- Finds places in flight that a tenant's count has and no job occupies, or the reverse. records: of the tenant's jobs that
-- occupied a place when the caller read them, while the count was seen.
-- Returns how many places the count has too many, and sets it right if it is asked to; nil if a job has taken or freed a
-- place since then.

local tenants = KEYS[1]
local records = {unpack(KEYS, 2)}
local tenant, seen, repair = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'

if tonumber(redis.call('HGET', tenants, tenant) or 0) ~= seen then return false end
for _, record in ipairs(records) do
  if redis.call('HEXISTS', record, 'reserved') == 0 then return false end
end
if repair and seen ~= #records then
  redis.call('HDEL', tenants, tenant)
  if #records > 0 then redis.call('HSET', tenants, tenant, #records) end
end
return seen - #records
