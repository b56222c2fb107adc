-- Deletes a finished job with its steps. Of a job that was cancelled before it was delivered, only what take.lua needs to
-- drop its entry is left until then.
-- Returns 1 if the job is deleted; 0 if there is no such job, or it has not finished, or nobody has seen it yet.
-- shared: may_move

local record, lane, steps = KEYS[1], KEYS[2], KEYS[3]
local moves = ARGV[1]

local state = redis.call('HGET', record, 'state') or ''
if state == '' or not may_move(moves, state, '') then return 0 end
local entry = redis.call('HGET', record, 'entry_id')
if not entry and redis.call('HEXISTS', record, 'submitted_at') == 0 then return 0 end
redis.call('DEL', steps)
if not entry or #redis.call('XRANGE', lane, entry, entry) == 0 then return redis.call('DEL', record) end
local fields = redis.call('HGETALL', record)
for i = 1, #fields, 2 do
  local name = fields[i]
  if name ~= 'state' and name ~= 'entry_id' then redis.call('HDEL', record, name) end
end
redis.call('HSET', record, 'lifetime', 1)
return 1
