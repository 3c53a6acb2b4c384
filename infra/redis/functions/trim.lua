#!lua name=@NAME@

--[[
Trim the oldest events of a log, and remove their positions from the index by stream.

trim(log, trimmed; streams_prefix, allowed, surplus, oldest, limit) -> number of trimmed events

The last event always stays: a reader who continues before the trimmed events then sees a gap, not the end of the log.

Keys
  log      stream  entries as in append.lua
  trimmed  hash    stream -> last version that was trimmed from the log
Undeclared keys, computed from the events, in the same hash slot
  <streams_prefix><stream> list  positions of the stream's events, in order of version

Arguments
  streams_prefix  prefix of the keys of the index by stream
  allowed         position up to which events may be trimmed
  surplus         position up to which events are trimmed regardless of their age
  oldest          epoch milliseconds; events recorded earlier are trimmed, up to position "allowed"
  limit           highest number of events to trim

Reply: number of trimmed events
]]

local function find_field(fields, name)
  for at = 1, #fields, 2 do
    if fields[at] == name then
      return fields[at + 1]
    end
  end
end

local function trim(keys, args)
  local allowed, surplus, oldest = tonumber(args[2]), tonumber(args[3]), tonumber(args[4])
  local last = redis.call('XREVRANGE', keys[1], '+', '-', 'COUNT', 1)[1]
  if not last then
    return 0
  end
  allowed = math.min(allowed, tonumber(last[1]:match('^%d+')) - 1)
  local trimmed, first_left, versions, streams = 0, nil, {}, {}
  for _, entry in ipairs(redis.call('XRANGE', keys[1], '-', '+', 'COUNT', args[5])) do
    local position, fields = tonumber(entry[1]:match('^%d+')), entry[2]
    if position > allowed
      or (position > surplus and tonumber(find_field(fields, 'recorded_at')) >= oldest) then
      break
    end
    local stream = find_field(fields, 'stream')
    versions[stream] = find_field(fields, 'version')
    trimmed, first_left = trimmed + 1, position + 1
    streams[trimmed] = stream
  end
  -- While a cluster moves the slot, this read fails if a key has been moved already: before the first write.
  for stream in pairs(versions) do
    redis.call('EXISTS', args[1] .. stream)
  end
  for _, stream in ipairs(streams) do
    redis.call('LPOP', args[1] .. stream)
  end
  for stream, version in pairs(versions) do
    -- A restore may have passed over later versions already.
    if tonumber(version) > tonumber(redis.call('HGET', keys[2], stream) or -1) then
      redis.call('HSET', keys[2], stream, version)
    end
  end
  if trimmed > 0 then
    redis.call('XTRIM', keys[1], 'MINID', string.format('%d-0', first_left))
  end
  return trimmed
end

-- The function runs on a full server, too: what it does frees memory, or takes next to none.
redis.register_function { function_name = '@NAME@', callback = trim, flags = { 'allow-oom' } }
