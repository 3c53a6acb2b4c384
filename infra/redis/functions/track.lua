#!lua name=@NAME@

--[[
track: move a tracking position forward and add to counters, all or nothing.

Keys
  1  tracking  hash      application -> "<position> <token of the call that set it>"
  2  counters  hash      counter -> number

Arguments
  1  application
  2  position
  3  token of this call: a repeat of the call carries the same
  … for each counter: its name, the number to add

Reply: nil, or the last position where that is not lower
]]

local function track(keys, args)
  local position, by = (redis.call('HGET', keys[1], args[1]) or '-1 '):match('^(%S+) (.*)$')
  if tonumber(position) >= tonumber(args[2]) then
    return by ~= args[3] and tonumber(position)
  end
  redis.call('HSET', keys[1], args[1], args[2] .. ' ' .. args[3])
  for at = 4, #args, 2 do
    redis.call('HINCRBY', keys[2], args[at], args[at + 1])
  end
  return false
end

redis.register_function('@NAME@', track)
