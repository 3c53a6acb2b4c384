#!lua name=@NAME@

--[[
Move a tracking position forward and add to counters, all or nothing.

track(tracking, counters; application, position, token, [counter, increment] …) -> nil or the stored position

Keys, both in the hash slot of the view
  tracking     hash     application -> "<position> <token of the call that set it>"
  counters     hash     counter -> its value

Arguments
  application  text     tracked application
  position     integer  new tracking position
  token        text     random text that identifies this call; a repeat of the call has the same token
  counter      text     name of a counter
  increment    integer  number to add to the counter

Replies
  nil              the position has moved
  stored position  it is not lower than the new position; nothing is written
]]

local function track(keys, args)
  local stored, stored_token = (redis.call('HGET', keys[1], args[1]) or '-1 '):match('^(%S+) (.*)$')
  if tonumber(stored) >= tonumber(args[2]) then
    return stored_token ~= args[3] and tonumber(stored)
  end
  redis.call('HSET', keys[1], args[1], args[2] .. ' ' .. args[3])
  for at = 4, #args, 2 do
    redis.call('HINCRBY', keys[2], args[at], args[at + 1])
  end
  return false
end

redis.register_function('@NAME@', track)
