-- Pushes the first parked job of a tenant again, with a place in flight reserved for it.
-- Returns 1 if the job has left the parked list; 0 if it is not the first one, or the tenant has enough jobs in flight.
-- shared: may_move, occupy, leave_parked, push_again

local record, lane, tenants, parked, parked_tenants = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local job_id, tenant, max_in_flight, payload_field = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local queued, moves = ARGV[5], ARGV[6]

if redis.call('LINDEX', parked, 0) ~= job_id then return 0 end
local in_flight = tonumber(redis.call('HGET', tenants, tenant) or 0)
if max_in_flight > 0 and in_flight >= max_in_flight then return 0 end
leave_parked(parked, parked_tenants, tenant, job_id)
local payload = redis.call('HGET', record, 'payload')
if not payload or not may_move(moves, redis.call('HGET', record, 'state') or '', queued) then return 1 end
if redis.call('HEXISTS', record, 'entry_id') == 1 then return 1 end  -- an entry stands for the job already
occupy(record, tenants, tenant)
push_again(record, lane, job_id, payload_field, payload)
return 1
