-- Takes a job off the list of its tenant's parked jobs, if it is there.
local function leave_parked(parked, parked_tenants, tenant, job_id)
  redis.call('LREM', parked, 1, job_id)
  if redis.call('LLEN', parked) == 0 then redis.call('SREM', parked_tenants, tenant) end
end
