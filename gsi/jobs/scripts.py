"""The scripts that move a job: each checks who asks and changes everything or nothing, in one round trip.

All keys of a call share one hash tag. Only commands that Redis 7.0 and Valkey share. ``token`` is the fencing token:
the number of times the job was taken; whoever took it last holds the highest, and nobody else may write. ``attempt``
counts those deliveries that count against the job: not one that a coordinator handed back as it stopped.
"""

# Milliseconds since 1970, as in the ids of stream entries.
NOW = """
local function now()
  local time = redis.call('TIME')
  return string.format('%d%03d', time[1], math.floor(time[2] / 1000))
end
"""

READ_CLOCK = NOW + "return now()"  # KEYS any of the queue's: on Cluster each server has its own clock

# What ends a job: announce it, acknowledge and free its entry, let record and steps expire.
# The entry goes last, so a crash before leaves the job to be delivered again.
FINISH = (
    NOW
    + """
local function release(record, tenants)
  local tenant = redis.call('HGET', record, 'tenant')
  if tenant and redis.call('HINCRBY', tenants, tenant, -1) <= 0 then redis.call('HDEL', tenants, tenant) end
end

local function finish(record, steps, jobs, results, group, entry, id, state, max_results, ttl)
  redis.call('HSET', record, 'state', state, 'finished_at', now())
  redis.call('XADD', results, 'MAXLEN', '~', max_results, '*', 'id', id, 'state', state)
  if entry then
    redis.call('XACK', jobs, group, entry)
    redis.call('XDEL', jobs, entry)
  end
  if entry or redis.call('HEXISTS', record, 'entry_id') == 0 then  -- else an entry is on its way: see TAKE
    redis.call('PEXPIRE', record, ttl)
    redis.call('PEXPIRE', steps, ttl)
  end
end
"""
)

BURY = """
local function bury(record, dead, id, reason, error, max_dead)
  redis.call('HSET', record, 'error', reason .. ': ' .. error, 'dead_reason', reason, 'last_error', error)
  redis.call('XADD', dead, 'MAXLEN', '~', max_dead, '*', 'id', id, 'reason', reason, 'error', error)
end
"""

# KEYS record, its lane, config, delayed, idempotency key (or the record again), then every lane. ARGV payload field,
# payload, job id, lifetime of the idempotency key in ms ('' without one), then record fields as name, value, …
# Returns {1, job id} if the job is new, {0, id} of the job that has this id or idempotency key, {-1, jobs} if the queue
# has as many as its limit allows.
SUBMIT = """
if redis.call('EXISTS', KEYS[1]) == 1 then return {0, ARGV[3]} end
local first = ARGV[4] ~= '' and redis.call('GET', KEYS[5])
if first then return {0, first} end
local most = redis.call('HGET', KEYS[3], 'max_jobs')
if most then
  local jobs = redis.call('ZCARD', KEYS[4])
  for i = 6, #KEYS do jobs = jobs + redis.call('XLEN', KEYS[i]) end
  if jobs >= tonumber(most) then
    redis.call('HINCRBY', KEYS[3], 'refused', 1)
    return {-1, tostring(jobs)}
  end
end
local entry = redis.call('XADD', KEYS[2], '*', ARGV[1], ARGV[2])
redis.call('HSET', KEYS[1], 'entry_id', entry, 'submitted_at', string.match(entry, '%d+'), unpack(ARGV, 5))
if ARGV[4] ~= '' then redis.call('SET', KEYS[5], ARGV[3], 'PX', ARGV[4]) end
return {1, ARGV[3]}
"""

# KEYS record, jobs stream, steps, results, tenants, dead, parked jobs of the tenant, parked tenants. ARGV entry id,
# consumer, group, job id, payload field, most attempts, results kept, dead letters kept, their lifetime in ms, the
# state RUNNING, DEAD, QUEUED, the tenant, its most jobs in flight (0: any), then the states it may be taken from (''
# for no record).
# Returns {token, attempt, age in ms, time of submission} if taken, {0, state} if there is nothing to run: the job has
# finished, waits for another entry, has been taken too often and is dead now, or its tenant has enough in flight and
# it is parked.
TAKE = (
    FINISH
    + BURY
    + """
local state = redis.call('HGET', KEYS[1], 'state') or ''
local entry = redis.call('HGET', KEYS[1], 'entry_id')
local may = false
for i = 15, #ARGV do may = may or ARGV[i] == state end
if not may or (entry and entry ~= ARGV[1]) then
  redis.call('XACK', KEYS[2], ARGV[3], ARGV[1])
  redis.call('XDEL', KEYS[2], ARGV[1])
  if not may and entry == ARGV[1] and redis.call('PTTL', KEYS[1]) == -1 then  -- cancelled before it was delivered
    local lifetime = redis.call('HGET', KEYS[1], 'lifetime') or ARGV[9]
    redis.call('PEXPIRE', KEYS[1], lifetime)
    redis.call('PEXPIRE', KEYS[3], lifetime)
  end
  return {0, state}
end
redis.call('HSET', KEYS[1], 'entry_id', ARGV[1], 'lane', KEYS[2], 'tenant', ARGV[13])
redis.call('HSETNX', KEYS[1], 'submitted_at', string.match(ARGV[1], '%d+'))
if redis.call('HEXISTS', KEYS[1], 'payload') == 0 then
  local fields = redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1])[1][2]
  for i = 1, #fields, 2 do
    if fields[i] == ARGV[5] then redis.call('HSET', KEYS[1], 'payload', fields[i + 1]) end
  end
end
if state ~= ARGV[10] and redis.call('HDEL', KEYS[1], 'reserved') == 0 then
  if tonumber(ARGV[14]) > 0 and tonumber(redis.call('HGET', KEYS[5], ARGV[13]) or 0) >= tonumber(ARGV[14]) then
    redis.call('HSET', KEYS[1], 'state', ARGV[12])
    redis.call('HDEL', KEYS[1], 'entry_id')
    redis.call('RPUSH', KEYS[7], ARGV[4])
    redis.call('SADD', KEYS[8], ARGV[13])
    redis.call('XACK', KEYS[2], ARGV[3], ARGV[1])
    redis.call('XDEL', KEYS[2], ARGV[1])
    return {0, ARGV[12]}
  end
  redis.call('HINCRBY', KEYS[5], ARGV[13], 1)
end
local attempt = redis.call('HINCRBY', KEYS[1], 'attempt', 1)
redis.call('HSET', KEYS[1], 'worker', ARGV[2])
if attempt > tonumber(ARGV[6]) then
  local error = redis.call('HGET', KEYS[1], 'last_error') or 'its coordinator was lost each time'
  redis.call('HSET', KEYS[1], 'attempt', ARGV[6])
  bury(KEYS[1], KEYS[6], ARGV[4], 'taken ' .. ARGV[6] .. ' times', error, ARGV[8])
  release(KEYS[1], KEYS[5])
  finish(KEYS[1], KEYS[3], KEYS[2], KEYS[4], ARGV[3], ARGV[1], ARGV[4], ARGV[11], ARGV[7], ARGV[9])
  return {0, ARGV[11]}
end
local token = redis.call('HINCRBY', KEYS[1], 'token', 1)
redis.call('HSET', KEYS[1], 'state', ARGV[10])
redis.call('HSETNX', KEYS[1], 'started_at', now())
local submitted = tonumber(redis.call('HGET', KEYS[1], 'submitted_at'))
return {token, attempt, now() - submitted, submitted}
"""
)

# KEYS record, steps stream. ARGV token, step index, step.
# Returns 1 if appended (or already there by the same token: a retried call), 0 if the lease was lost.
APPEND_STEP = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
local length = redis.call('XLEN', KEYS[2])
if length == tonumber(ARGV[2]) then
  redis.call('XADD', KEYS[2], '*', 'step', ARGV[3], 'token', ARGV[1])
  redis.call('HSET', KEYS[1], 'num_steps', length + 1)
  return 1
end
if length == tonumber(ARGV[2]) + 1 then
  local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1][2]
  if last[4] == ARGV[1] then return 1 end
end
return redis.error_reply('step ' .. ARGV[2] .. ' does not follow the ' .. length .. ' kept steps')
"""

# KEYS record, jobs stream, steps, results, tenants. ARGV token, group, entry id, new state, job id, results kept,
# lifetime in ms, states it may come from as one comma-separated word, then record fields as name, value, …
# Returns 1 if committed (or already so by the same token: a retried call), 0 if the lease was lost.
COMMIT = (
    FINISH
    + """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
local state = redis.call('HGET', KEYS[1], 'state')
if not string.find(',' .. ARGV[8] .. ',', ',' .. state .. ',', 1, true) then
  return state == ARGV[4] and 1 or 0
end
redis.call('HSET', KEYS[1], unpack(ARGV, 9))
redis.call('HDEL', KEYS[1], 'payload')  -- only a job that is to be pushed again needs it
release(KEYS[1], KEYS[5])
finish(KEYS[1], KEYS[3], KEYS[2], KEYS[4], ARGV[2], ARGV[3], ARGV[5], ARGV[4], ARGV[6], ARGV[7])
return 1
"""
)

# KEYS record, jobs stream, steps, results, tenants, dead, delayed. ARGV token, group, entry id, job id, error, delay in
# ms, most attempts, results kept, dead letters kept, their lifetime in ms, the state QUEUED, DEAD.
# Returns the new state if the job was put off, or is dead after too many attempts; 0 if the lease was lost.
RETRY = (
    FINISH
    + BURY
    + """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
if redis.call('HGET', KEYS[1], 'entry_id') ~= ARGV[3] then return redis.call('HGET', KEYS[1], 'state') end
redis.call('HSET', KEYS[1], 'last_error', ARGV[5])
release(KEYS[1], KEYS[5])
if tonumber(redis.call('HGET', KEYS[1], 'attempt')) >= tonumber(ARGV[7]) then
  bury(KEYS[1], KEYS[6], ARGV[4], 'tried ' .. ARGV[7] .. ' times', ARGV[5], ARGV[9])
  finish(KEYS[1], KEYS[3], KEYS[2], KEYS[4], ARGV[2], ARGV[3], ARGV[4], ARGV[12], ARGV[8], ARGV[10])
  return ARGV[12]
end
redis.call('HSET', KEYS[1], 'state', ARGV[11])
redis.call('HDEL', KEYS[1], 'entry_id')
redis.call('ZADD', KEYS[7], now() + ARGV[6], ARGV[4])
redis.call('XACK', KEYS[2], ARGV[2], ARGV[3])
redis.call('XDEL', KEYS[2], ARGV[3])
return ARGV[11]
"""
)

# KEYS delayed. ARGV how many. Returns the ids of jobs whose delay is over.
DUE = (
    NOW
    + """
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now(), 'LIMIT', 0, ARGV[1])
"""
)

# KEYS delayed, record, jobs stream. ARGV job id, payload field, the state QUEUED. Returns 1 if the job was
# pushed again.
PROMOTE = """
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
local payload = redis.call('HGET', KEYS[2], 'payload')
if not payload or redis.call('HGET', KEYS[2], 'state') ~= ARGV[3] then return 0 end
if redis.call('HEXISTS', KEYS[2], 'entry_id') == 1 then return 0 end  -- somebody has pushed it meanwhile
redis.call('HSET', KEYS[2], 'entry_id', redis.call('XADD', KEYS[3], '*', ARGV[2], payload, 'id', ARGV[1]))
return 1
"""

# KEYS record, jobs stream, steps, results, tenants, delayed, parked jobs. ARGV job id, reason, group, results kept,
# lifetime in ms, the states QUEUED, RUNNING, CANCELLED, '1' if the job may have been pushed and not seen yet.
# Returns the state it found; of a job that may be unseen QUEUED: it is marked, and dropped when it comes. A queued job
# is cancelled at once: its entry stays until it is delivered and dropped, because deleting an undelivered entry makes
# the group's lag unknown. A running one is asked to stop.
CANCEL = (
    FINISH
    + """
local state = redis.call('HGET', KEYS[1], 'state')
if not state then
  if ARGV[9] ~= '1' then return false end
  state = ARGV[6]
end
if state == ARGV[6] then
  redis.call('ZREM', KEYS[6], ARGV[1])
  redis.call('LREM', KEYS[7], 1, ARGV[1])
  if redis.call('HDEL', KEYS[1], 'reserved') == 1 then release(KEYS[1], KEYS[5]) end
  redis.call('HSET', KEYS[1], 'error', ARGV[2], 'lifetime', ARGV[5])
  finish(KEYS[1], KEYS[3], KEYS[2], KEYS[4], ARGV[3], false, ARGV[1], ARGV[8], ARGV[4], ARGV[5])
elseif state == ARGV[7] then
  redis.call('HSETNX', KEYS[1], 'cancel_reason', ARGV[2])
end
return state
"""
)

# KEYS record, lane, tenants, parked jobs of the tenant, parked tenants. ARGV job id, tenant, its most jobs in flight,
# payload field. Returns 1 if the parked job, the first of its tenant, was pushed again; its place in flight is
# reserved.
UNPARK = """
if redis.call('LINDEX', KEYS[4], 0) ~= ARGV[1] then return 0 end
if tonumber(ARGV[3]) > 0 and tonumber(redis.call('HGET', KEYS[3], ARGV[2]) or 0) >= tonumber(ARGV[3]) then return 0 end
redis.call('LPOP', KEYS[4])
if redis.call('LLEN', KEYS[4]) == 0 then redis.call('SREM', KEYS[5], ARGV[2]) end
local payload = redis.call('HGET', KEYS[1], 'payload')
if not payload then return 1 end
redis.call('HINCRBY', KEYS[3], ARGV[2], 1)
local entry = redis.call('XADD', KEYS[2], '*', ARGV[4], payload, 'id', ARGV[1])  -- a bare payload may not say it
redis.call('HSET', KEYS[1], 'reserved', 1, 'entry_id', entry)
return 1
"""

# KEYS record, jobs stream. ARGV token, group, consumer, entry id, idle time in ms to set: 0 renews, the lease's length
# hands the job back, and the attempt is then not counted; the state RUNNING. JUSTID: the delivery count stays as it is.
# Returns {1, why it is to be cancelled or ''} if still held, {0} if the lease was lost.
SET_IDLE = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return {0} end
local pending = redis.call('XPENDING', KEYS[2], ARGV[2], ARGV[4], ARGV[4], 1)
if #pending == 0 then  -- acknowledged: by our own commit, whose answer is on its way, or by nobody that we know of
  return {redis.call('HGET', KEYS[1], 'state') == ARGV[6] and 0 or 1, ''}
end
if pending[1][2] ~= ARGV[3] then return {0} end
redis.call('XCLAIM', KEYS[2], ARGV[2], ARGV[3], 0, ARGV[4], 'IDLE', ARGV[5], 'JUSTID')
if ARGV[5] ~= '0' and redis.call('HGET', KEYS[1], 'handed_back') ~= ARGV[1] then  -- else a call that was sent twice
  redis.call('HINCRBY', KEYS[1], 'attempt', -1)
  redis.call('HSET', KEYS[1], 'handed_back', ARGV[1])
end
return {1, redis.call('HGET', KEYS[1], 'cancel_reason') or ''}
"""
