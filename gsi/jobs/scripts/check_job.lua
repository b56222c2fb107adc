-- Finds what is wrong with a job, whether or not it has a record, and mends it if it is asked to. One call, so that what
-- coordinators do meanwhile comes before it or after it.
-- Returns what was wrong, as words; nil if parked is not the list of the job's tenant any more, and nothing was done.
-- shared: now, may_move, fence, release, finish, expire, leave_parked, push_again, is_deliverable

local record, lane, steps, results, tenants, delayed = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local parked, parked_tenants, config = KEYS[7], KEYS[8], KEYS[9]
local job_id, tenant, lifetime_ms, repair = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1'
local group, payload_field, max_results = ARGV[5], ARGV[6], ARGV[7]
local queued, failed, moves = ARGV[8], ARGV[9], ARGV[10]

local state = redis.call('HGET', record, 'state') or ''
local entry = redis.call('HGET', record, 'entry_id')
if state ~= '' and (redis.call('HGET', record, 'tenant') or tenant) ~= tenant then return false end
local wrong = {}
local function found(what) wrong[#wrong + 1] = what end

local is_unfinished = may_move(moves, state, queued)
local has_entry = entry and is_deliverable(lane, group, entry)
local is_delayed = redis.call('ZSCORE', delayed, job_id)
local num_parked = 0
for _, each in ipairs(redis.call('LRANGE', parked, 0, -1)) do
  if each == job_id then num_parked = num_parked + 1 end
end

if is_delayed and (not is_unfinished or entry) then
  found('it is delayed, and does not wait')
  if repair then redis.call('ZREM', delayed, job_id) end
end
local num_allowed = (is_unfinished and not entry and not is_delayed) and 1 or 0
if num_parked > num_allowed then
  found('it is parked ' .. num_parked .. ' times; allowed: once, if it waits nowhere else')
  if repair then
    for _ = num_allowed + 1, num_parked do leave_parked(parked, parked_tenants, tenant, job_id) end
  end
end
if is_unfinished and not has_entry and (entry or not (is_delayed or num_parked > 0)) then
  found('it is ' .. state .. ', and no coordinator will be given it')
  local payload = redis.call('HGET', record, 'payload')
  if repair and payload then
    if entry then redis.call('XDEL', lane, entry) end
    fence(record, config, '')
    release(record, tenants)
    redis.call('HSET', record, 'state', queued)
    push_again(record, lane, job_id, payload_field, payload)
  elseif repair then
    fence(record, config, '')
    redis.call('HSET', record, 'error', 'internal error; its payload was lost')
    finish(record, results, tenants, job_id, failed, max_results)
    expire(record, steps, lifetime_ms)
  end
end
local has_ended = state ~= '' and not is_unfinished
if has_ended and not has_entry then
  for _, key in ipairs({record, steps}) do
    if redis.call('PTTL', key) == -1 then
      found('it is ' .. state .. ', and ' .. (key == record and 'its record' or 'its steps') .. ' would stay for ever')
      if repair then redis.call('PEXPIRE', key, lifetime_ms) end
    end
  end
end
if state == '' and redis.call('PTTL', steps) == -1 then
  found('it has steps and no record')
  if repair then redis.call('DEL', steps) end
end
return wrong
