#!lua name=@NAME@
--
-- commit(state, key …; epoch, expected, position, [command, key number, count, word × count] …) -> outcome
--
-- Runs the write commands of one batch for a segment, if the caller still has its lease and the batch begins where
-- the segment's checkpoint is. All or nothing: nothing is written before both have been checked.
--
--   state     hash     of the segment; ``epoch`` of its lease, ``checkpoint``: the position it has been folded up to
--   key …     any      the keys of the commands, all in the slot of ``state``; a command names one by its number
--   epoch     int      of the caller's lease
--   expected  int      the checkpoint at which the batch begins
--   position  int      the checkpoint that it leads to (one of the commands writes it)
--
-- A member whose ZINCRBY leads to 0 is removed.
--
-- outcome: 'committed' | 'already there' (checkpoint is at or past position) | 'out of step' | 'not ours' (fenced)

local function run(name, key, args, first, last)
  if name == 'ZINCRBY' then
    if tonumber(redis.call(name, key, args[first], args[last])) == 0 then
      redis.call('ZREM', key, args[last])
    end
  else
    redis.call(name, key, unpack(args, first, last))
  end
end

local function commit(keys, args)
  local state = redis.call('HMGET', keys[1], 'epoch', 'checkpoint')
  if state[1] ~= args[1] then
    return 'not ours'
  end
  local checkpoint = tonumber(state[2] or 0)
  if checkpoint ~= tonumber(args[2]) then
    return checkpoint >= tonumber(args[3]) and 'already there' or 'out of step'
  end
  local at = 4
  while at <= #args do
    local count = tonumber(args[at + 2])
    run(args[at], keys[tonumber(args[at + 1])], args, at + 3, at + 2 + count)
    at = at + 3 + count
  end
  return 'committed'
end

redis.register_function('@NAME@', commit)
