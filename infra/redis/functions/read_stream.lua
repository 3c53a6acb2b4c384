#!lua name=@NAME@

--[[
read_stream: events of one stream, by version; writes nothing.

Keys
  1  log       stream    entry "<position>-0"
  2  versions  hash      stream -> last version
  3  trimmed   hash      stream -> last version that the log no longer has
  4  stream    list of the stream's positions, in order of version, its tail being the last version

Arguments
  1  name of the stream
  2  lowest version
  3  highest version, or ""
  4  "1" for the highest version first, else "0"
  5  number of events, at most

Reply: the last version that the log no longer has, or -1; the entries it has, each as XRANGE gives them
]]

local function read_stream(keys, args)
  local last = tonumber(redis.call('HGET', keys[2], args[1]))
  local trimmed = tonumber(redis.call('HGET', keys[3], args[1]) or -1)
  if not last then
    return { trimmed, {} }
  end
  local kept = redis.call('LLEN', keys[4])
  local lowest = math.max(tonumber(args[2]), last - kept + 1)
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
  -- Versions are gapless, so that a version's place is counted from the tail.
  local positions = redis.call('LRANGE', keys[4], lowest - last - 1, highest - last - 1)
  local entries = {}
  for index = 1, #positions do
    local id = positions[descending and #positions - index + 1 or index] .. '-0'
    entries[#entries + 1] = redis.call('XRANGE', keys[1], id, id)[1]
  end
  return { trimmed, entries }
end

redis.register_function { function_name = '@NAME@', callback = read_stream, flags = { 'no-writes' } }
