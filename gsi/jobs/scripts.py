"""The scripts that move a job: each checks who asks and changes everything or nothing, in one round trip.

All keys of a call share one hash tag. Only commands that Redis 7.0 and Valkey share. ``token`` is the fencing token:
the number of times the job was taken; whoever took it last holds the highest, and nobody else may write.
"""

# Milliseconds since 1970, as in the ids of stream entries.
NOW = """
local function now()
  local time = redis.call('TIME')
  return string.format('%d%03d', time[1], math.floor(time[2] / 1000))
end
"""

# KEYS record, jobs stream. ARGV payload field, payload, then record fields as name, value, …
# Returns 1 if the job is new, 0 if its record exists.
SUBMIT = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local entry = redis.call('XADD', KEYS[2], '*', ARGV[1], ARGV[2])
redis.call('HSET', KEYS[1], 'entry_id', entry, 'submitted_at', string.match(entry, '%d+'), unpack(ARGV, 3))
return 1
"""

# KEYS record. ARGV entry id, consumer, new state, then the states it may be taken from ('' for no record).
# Returns {token} if taken, {0, state} if the job has finished, {0, state, entry id} if another entry carries it.
TAKE = (
    NOW
    + """
local state = redis.call('HGET', KEYS[1], 'state') or ''
local entry = redis.call('HGET', KEYS[1], 'entry_id')
local may = false
for i = 4, #ARGV do may = may or ARGV[i] == state end
if not may then return {0, state} end
if entry and entry ~= ARGV[1] then return {0, state, entry} end
local token = redis.call('HINCRBY', KEYS[1], 'attempt', 1)
redis.call('HSET', KEYS[1], 'state', ARGV[3], 'entry_id', ARGV[1], 'worker', ARGV[2])
redis.call('HSETNX', KEYS[1], 'submitted_at', string.match(ARGV[1], '%d+'))
redis.call('HSETNX', KEYS[1], 'started_at', now())
return {token}
"""
)

# KEYS record, steps stream. ARGV token, step index, step.
# Returns 1 if appended (or already there by the same token: a retried call), 0 if the lease was lost.
APPEND_STEP = """
if redis.call('HGET', KEYS[1], 'attempt') ~= ARGV[1] then return 0 end
local length = redis.call('XLEN', KEYS[2])
if length == tonumber(ARGV[2]) then
  redis.call('XADD', KEYS[2], '*', 'step', ARGV[3], 'attempt', ARGV[1])
  redis.call('HSET', KEYS[1], 'num_steps', length + 1)
  return 1
end
if length == tonumber(ARGV[2]) + 1 then
  local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1][2]
  if last[4] == ARGV[1] then return 1 end
end
return redis.error_reply('step ' .. ARGV[2] .. ' does not follow the ' .. length .. ' kept steps')
"""

# KEYS record, jobs stream, results stream. ARGV token, group, entry id, new state, job id, results kept, states it may
# come from as one comma-separated word, then record fields as name, value, …
# Commits, announces, acknowledges, and frees the entry: last, so a crash before leaves the job to be delivered again.
# Returns 1 if committed (or already so by the same token: a retried call), 0 if the lease was lost.
COMMIT = (
    NOW
    + """
if redis.call('HGET', KEYS[1], 'attempt') ~= ARGV[1] then return 0 end
local state = redis.call('HGET', KEYS[1], 'state')
if not string.find(',' .. ARGV[7] .. ',', ',' .. state .. ',', 1, true) then
  return state == ARGV[4] and 1 or 0
end
redis.call('HSET', KEYS[1], 'state', ARGV[4], 'finished_at', now(), unpack(ARGV, 8))
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[6], '*', 'id', ARGV[5], 'state', ARGV[4])
redis.call('XACK', KEYS[2], ARGV[2], ARGV[3])
redis.call('XDEL', KEYS[2], ARGV[3])
return 1
"""
)

# KEYS record, jobs stream. ARGV token, group, consumer, entry id, idle time in ms to set: 0 renews, the lease's length
# hands the job back. JUSTID: the delivery count stays as it is.
# Returns 1 if still held, 0 if the lease was lost.
SET_IDLE = """
if redis.call('HGET', KEYS[1], 'attempt') ~= ARGV[1] then return 0 end
local pending = redis.call('XPENDING', KEYS[2], ARGV[2], ARGV[4], ARGV[4], 1)
if #pending == 0 or pending[1][2] ~= ARGV[3] then return 0 end
redis.call('XCLAIM', KEYS[2], ARGV[2], ARGV[3], 0, ARGV[4], 'IDLE', ARGV[5], 'JUSTID')
return 1
"""
