-- Counts a job as no longer in flight for its tenant.
local function release(record, tenants)
  local tenant = redis.call('HGET', record, 'tenant')
  if tenant and redis.call('HINCRBY', tenants, tenant, -1) <= 0 then redis.call('HDEL', tenants, tenant) end
end
