-- Finds a tenant that is wrongly in the set of tenants with parked jobs, or wrongly not.
-- Returns 1 if the set was wrong about it; else 0.

local parked, parked_tenants = KEYS[1], KEYS[2]
local tenant, repair = ARGV[1], ARGV[2] == '1'

local is_there = redis.call('SISMEMBER', parked_tenants, tenant) == 1
local has_parked = redis.call('LLEN', parked) > 0
if is_there == has_parked then return 0 end
if repair and has_parked then redis.call('SADD', parked_tenants, tenant) end
if repair and is_there then redis.call('SREM', parked_tenants, tenant) end
return 1
