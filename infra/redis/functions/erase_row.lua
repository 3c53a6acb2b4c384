#!lua name=@NAME@

--[[
Erase a row of a segment, and the parked events of its key, up to a position of the log. Later events stay.

erase_row(rows, index, parked, retry, parked_events …; position, key, parked_key …) -> 1 if the row was erased, else 0

Keys, all in the hash slot of the segment
  rows            hash        row key -> document, which begins with {"position":<position of the last change>,
  index           sorted set  the index of all rows
  parked          hash        parked key -> {"error", "position", "since"}
  retry           set         parked keys whose retry is requested
  parked_events … list        for each parked_key: its parked events in order, JSON with the field "position"

Arguments
  position      the position up to which data are erased
  key           key of the row
  parked_key …  keys under which events that concern the row may be parked
]]

local function erase_row(keys, args)
  local rows, index, parked, retry = keys[1], keys[2], keys[3], keys[4]
  local position, key = tonumber(args[1]), args[2]
  for number = 3, #args do
    local events = keys[2 + number]
    local first = redis.call('LINDEX', events, 0)
    while first and cjson.decode(first).position <= position do
      redis.call('LPOP', events)
      first = redis.call('LINDEX', events, 0)
    end
    if first then
      -- The error may quote an event that was erased. The retry replaces it.
      redis.call('HSET', parked, args[number], '{"error":"the first parked events were erased",' ..
        '"position":' .. cjson.decode(first).position .. ',"since":' .. cjson.decode(first).recorded_at .. '}')
      redis.call('SADD', retry, args[number])
    else
      redis.call('HDEL', parked, args[number])
      redis.call('SREM', retry, args[number])
    end
  end
  local document = redis.call('HGET', rows, key)
  if document and tonumber(document:match('^{"position":(%d+),')) <= position then
    redis.call('HDEL', rows, key)
    redis.call('ZREM', index, key)
    return 1
  end
  return 0
end

redis.register_function('@NAME@', erase_row)
