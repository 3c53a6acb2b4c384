#!lua name=@NAME@

--[[
trim: take the oldest events out of a log, and their places out of the index by stream. The last event always stays, so
that whoever reads on from before it sees a gap and not an end.

Keys
  1  log      stream  as in append.lua
  2  trimmed  hash    stream -> last version that the log no longer has
Keys that follow from the events, in the same hash slot
  <prefix><stream>  list  the stream's positions, in order of version

Arguments
  1  prefix of the index by stream
  2  position up to which events may go
  3  position up to which they go whatever their age
  4  epoch millisecond before which they go
  5  events looked at, at most

Reply: how many went
]]

local function field_of(fields, name)
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
  local gone, left, versions = 0, nil, {}
  for _, entry in ipairs(redis.call('XRANGE', keys[1], '-', '+', 'COUNT', args[5])) do
    local position, fields = tonumber(entry[1]:match('^%d+')), entry[2]
    if position > allowed
      or (position > surplus and tonumber(field_of(fields, 'recorded_at')) >= oldest) then
      break
    end
    local stream = field_of(fields, 'stream')
    redis.call('LPOP', args[1] .. stream)
    versions[stream] = field_of(fields, 'version')
    gone, left = gone + 1, position + 1
  end
  for stream, version in pairs(versions) do
    redis.call('HSET', keys[2], stream, version)
  end
  if gone > 0 then
    redis.call('XTRIM', keys[1], 'MINID', string.format('%d-0', left))
  end
  return gone
end

redis.register_function('@NAME@', trim)
