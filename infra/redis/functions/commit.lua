#!lua name=@NAME@
--
-- commit(state, key …; epoch, expected, position, commands) -> outcome
--
-- Runs the write commands of one batch for a segment, if the caller still has its lease and the batch begins where
-- the segment's checkpoint is. All or nothing: nothing is written before both have been checked.
--
--   state     hash     of the segment; ``epoch`` of its lease, ``checkpoint``: the position it has been folded up to
--   key …     any      the keys of the commands, all in the slot of ``state``; a command names one by its number
--   epoch     int      of the caller's lease
--   expected  int      the checkpoint at which the batch begins
--   position  int      the checkpoint that it leads to (one of the commands writes it)
--   commands  msgpack  [[command, key number, [word …]] …]; one argument, because tens of words a row, each an
--                      argument of its own, take both sides longer than the commands themselves
--
-- ZINCRBY takes any number of increments and members; a member that it leads to 0 is removed. XADD adds the field
-- ``number``: how many such entries there have been, so that whoever reads them knows when one is missing.
--
-- outcome: 'committed' | 'already there' (checkpoint is at or past position) | 'out of step' | 'not ours' (fenced)

local function add_up(key, words)
  for at = 1, #words, 2 do
    if tonumber(redis.call('ZINCRBY', key, words[at], words[at + 1])) == 0 then
      redis.call('ZREM', key, words[at + 1])
    end
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
  for _, command in ipairs(cmsgpack.unpack(args[4])) do
    local name, key, words = command[1], keys[command[2]], command[3]
    if name == 'ZINCRBY' then
      add_up(key, words)
    elseif name == 'XADD' then
      words[#words + 1] = 'number'
      words[#words + 1] = redis.call('HINCRBY', keys[1], 'changes', 1)
      redis.call(name, key, unpack(words))
    else
      redis.call(name, key, unpack(words))
    end
  end
  return 'committed'
end

redis.register_function('@NAME@', commit)
