#!lua name=@NAME@

--[[
Find the streams that a partition of the market log has. A stream that it does not have can never begin there while the
log is sealed with the caller's number of partitions, unless this log is the one of new streams.

find_streams(meta, versions; partitions, stream …) -> reply

Keys, both in the hash slot of the log
  meta        hash  as in append.lua
  versions    hash  stream -> its last version

Arguments
  partitions  text  number of partitions that the caller knows, as in append.lua
  stream …    text  names of the streams

Replies
  {"unopened"}        The log has not been opened since its server was started or replaced: it may lack streams.
  {"sealed", text}    The log is sealed with another number of partitions than the caller's, or not ("").
  {"found", 1 or 0 …} Whether the log has each stream.
]]

-- As in append.lua.
local MAX_VALUES = 1000

-- As in append.lua.
local function server_incarnation()
  return redis.call('INFO', 'replication'):match('master_replid:(%x+)')
end

local function find_streams(keys, args)
  local meta = redis.call('HMGET', keys[1], 'reign', 'partitions')
  if meta[1] ~= server_incarnation() then
    return { 'unopened' }
  end
  if meta[2] ~= args[1] then
    return { 'sealed', meta[2] or '' }
  end
  local reply = { 'found' }
  for first = 2, #args, MAX_VALUES do
    for _, version in ipairs(redis.call('HMGET', keys[2], unpack(args, first, math.min(first + MAX_VALUES - 1, #args)))) do
      reply[#reply + 1] = version and 1 or 0
    end
  end
  return reply
end

redis.register_function { function_name = '@NAME@', callback = find_streams, flags = { 'no-writes' } }
