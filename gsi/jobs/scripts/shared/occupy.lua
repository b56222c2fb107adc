-- Counts a job as in flight for its tenant, once however often it is called. release.lua ends that.
local function occupy(record, tenants, tenant)
  if redis.call('HSETNX', record, 'reserved', 1) == 1 then redis.call('HINCRBY', tenants, tenant, 1) end
end
