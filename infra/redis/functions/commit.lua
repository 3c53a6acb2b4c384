#!lua name=@NAME@

--[[
Commit a batch of a segment: run its write commands behind the fence, all or nothing.

commit(state, key …; epoch, expected, position, token, commands …) -> outcome

Nothing is written before the epoch of the lease, the checkpoint and the type of each key have been checked: the server
does not undo the commands that ran before a command that fails.

Keys, all in the hash slot of the segment
  state     hash     the segment's state; epoch: of its lease; checkpoint: position up to which it has been folded;
                     changes: number of entries that its changes stream has had; token: of the last commit with a token
  key …     any      the keys of the commands; a command names a key by its number, the state being 1

Arguments
  epoch     integer  epoch of the caller's lease
  expected  integer  checkpoint at which the batch begins
  position  integer  checkpoint to which the batch leads; one of the commands writes it
  token     text     empty if the commit moves the checkpoint; else a random text, by which a repeat is recognised
  commands  msgpack  array of commands, each an array: name, number of its key, array of its further words; packed, because
  …                  tens of arguments per row take longer to parse than the commands to run; in any number

Commands with a special meaning
  ZINCRBY   takes pairs of increment and member, and removes a member whose score becomes 0; it runs as one command
            that reads the scores and one or two that write them, because a ZINCRBY of each member takes twice as long
  XADD      gets the additional field "number": the number of the entry, by which readers notice a missing entry

Outcomes
  "committed"            all commands have run
  "already committed"    the checkpoint is at or past the position, or the last token is that of the call, as after a
                         repeat of the call; nothing is written
  "checkpoint mismatch"  the checkpoint is not the expected one, and it is before the position; nothing is written
  "fenced"               the lease has another epoch, so that the fence refuses the commit; nothing is written
]]

local TYPES = {
  HSET = 'hash', HDEL = 'hash', ZADD = 'zset', ZREM = 'zset', ZINCRBY = 'zset', XADD = 'stream', RPUSH = 'list',
  LTRIM = 'list', SREM = 'set',
}

local function find_wrong_type(keys, commands)
  for _, command in ipairs(commands) do
    local key = keys[command[2]]
    local found = redis.call('TYPE', key).ok
    if found ~= 'none' and found ~= TYPES[command[1]] then
      return redis.error_reply('WRONGTYPE The key ' .. key .. ' is a ' .. found .. ', not a ' .. TYPES[command[1]])
    end
  end
end

local function increment_counts(key, words)
  local groups = {}
  for at = 2, #words, 2 do
    groups[#groups + 1] = words[at]
  end
  local numbers, present, empty = redis.call('ZMSCORE', key, unpack(groups)), {}, {}
  for at, group in ipairs(groups) do
    local number = tonumber(numbers[at] or 0) + words[2 * at - 1]
    if number == 0 then
      empty[#empty + 1] = group
    else
      present[#present + 1] = number
      present[#present + 1] = group
    end
  end
  if #present > 0 then
    redis.call('ZADD', key, unpack(present))
  end
  if #empty > 0 then
    redis.call('ZREM', key, unpack(empty))
  end
end

local function commit(keys, args)
  local state = redis.call('HMGET', keys[1], 'epoch', 'checkpoint', 'token')
  if state[1] ~= args[1] then
    return 'fenced'
  end
  local checkpoint = tonumber(state[2] or 0)
  if checkpoint ~= tonumber(args[2]) then
    return checkpoint >= tonumber(args[3]) and 'already committed' or 'checkpoint mismatch'
  end
  local token = args[4]
  if token ~= '' and token == state[3] then
    return 'already committed'
  end
  local commands = {}
  for at = 5, #args do
    for _, command in ipairs(cmsgpack.unpack(args[at])) do
      commands[#commands + 1] = command
    end
  end
  local wrong = find_wrong_type(keys, commands)
  if wrong then
    return wrong
  end
  for _, command in ipairs(commands) do
    local name, key, words = command[1], keys[command[2]], command[3]
    if name == 'ZINCRBY' then
      increment_counts(key, words)
    elseif name == 'XADD' then
      words[#words + 1] = 'number'
      words[#words + 1] = redis.call('HINCRBY', keys[1], 'changes', 1)
      redis.call(name, key, unpack(words))
    else
      redis.call(name, key, unpack(words))
    end
  end
  if token ~= '' then
    redis.call('HSET', keys[1], 'token', token)
  end
  return 'committed'
end

redis.register_function('@NAME@', commit)
