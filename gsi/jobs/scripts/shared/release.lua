-- Counts a job as no longer in flight for its tenant, if it is counted.
local function release(record, tenants)
  if redis.call('HDEL', record, 'reserved') == 0 then return end
  local tenant = redis.call('HGET', record, 'tenant')
  if redis.call('HINCRBY', tenants, tenant, -1) <= 0 then redis.call('HDEL', tenants, tenant) end
end
