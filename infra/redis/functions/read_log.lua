#!lua name=@NAME@

--[[
Read the next events of a log, bounded by their number and by the bytes of their states.

read_log(log; after, limit, bytes) -> {entry, …}

Keys
  log    stream   entries as in append.lua

Arguments
  after  integer  position after which the events begin
  limit  integer  highest number of events
  bytes  integer  highest number of bytes of all states; the first event may have more

Reply: the entries as XRANGE returns them
]]

-- Number of events that are read from the stream at once, and so may be read in vain.
local CHUNK = 8

local function size_of(fields)
  for at = 1, #fields, 2 do
    if fields[at] == 'state' then
      return #fields[at + 1]
    end
  end
  return 0
end

local function read_log(keys, args)
  local first = '(' .. args[1] .. '-0'
  local left, bytes = tonumber(args[2]), tonumber(args[3])
  local reply = {}
  while left > 0 do
    local chunk = math.min(left, CHUNK)
    local entries = redis.call('XRANGE', keys[1], first, '+', 'COUNT', chunk)
    for _, entry in ipairs(entries) do
      bytes = bytes - size_of(entry[2])
      if bytes < 0 and #reply > 0 then
        return reply
      end
      reply[#reply + 1] = entry
      first = '(' .. entry[1]
    end
    if #entries < chunk then
      return reply
    end
    left = left - chunk
  end
  return reply
end

redis.register_function { function_name = '@NAME@', callback = read_log, flags = { 'no-writes' } }
