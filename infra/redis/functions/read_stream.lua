#!lua name=@NAME@

--[[
Read events of one stream by version. Writes nothing.

read_stream(log, versions, trimmed, positions; stream, lowest, highest, descending, limit) -> {trimmed, entries}

Keys, all in the hash slot of the log
  log         stream   entry "<position>-0"
  versions    hash     stream -> its last version
  trimmed     hash     stream -> last version that was trimmed from the log
  positions   list     positions of the stream's untrimmed events; the tail is the position of the last version

Arguments
  stream      text     name of the stream
  lowest      integer  lowest version to read
  highest     integer  highest version to read, or "" for the last version
  descending  "1" to begin with the highest version, else "0"
  limit       integer  highest number of events

Reply
  trimmed  last version of the stream that was trimmed from the log, or -1
  entries  the untrimmed entries of the range, each as XRANGE returns it
]]

local function read_stream(keys, args)
  local last = tonumber(redis.call('HGET', keys[2], args[1]))
  local trimmed = tonumber(redis.call('HGET', keys[3], args[1]) or -1)
  if not last then
    return { trimmed, {} }
  end
  local untrimmed = redis.call('LLEN', keys[4])
  local lowest = math.max(tonumber(args[2]), last - untrimmed + 1)
  local highest = math.min(tonumber(args[3]) or last, last)
  local descending, limit = args[4] == '1', tonumber(args[5])
  if descending then
    lowest = math.max(lowest, highest - limit + 1)
  else
    highest = math.min(highest, lowest + limit - 1)
  end
  if lowest > highest then
    return { trimmed, {} }
  end
  -- Versions are gapless, so that the index of a version in the list follows from its distance to the tail.
  local positions = redis.call('LRANGE', keys[4], lowest - last - 1, highest - last - 1)
  local entries = {}
  for index = 1, #positions do
    local id = positions[descending and #positions - index + 1 or index] .. '-0'
    entries[#entries + 1] = redis.call('XRANGE', keys[1], id, id)[1]
  end
  return { trimmed, entries }
end

redis.register_function { function_name = '@NAME@', callback = read_stream, flags = { 'no-writes' } }
