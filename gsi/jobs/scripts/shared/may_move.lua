-- Returns whether a script may move a job from one state to another. moves: the script's rows of the table of
-- transitions (gsi/jobs/state.py), as 'before>after before>after …'. '' is the state of a job without a record.
local function may_move(moves, before, after)
  return string.find(' ' .. moves .. ' ', ' ' .. before .. '>' .. after .. ' ', 1, true) ~= nil
end
