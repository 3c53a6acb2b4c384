#!lua name=@NAME@

--[[
Merge a number of partitions into the stored number. The present number never falls, and the first one never rises.

merge_partitions(hash; field, number, created) -> {number, created}, as stored after the call

Keys
  hash     hash     field -> "<created>" for a number that was never raised, else "<created>-<number>"

Arguments
  field    text     field with the number
  number    integer  present number of partitions
  created  integer  number of partitions with which the log was created
]]

local function merge_partitions(keys, args)
  local number, created = tonumber(args[2]), tonumber(args[3])
  local stored = redis.call('HGET', keys[1], args[1])
  if stored then
    local first, present = stored:match('^(%d+)%-?(%d*)$')
    created = math.min(created, tonumber(first))
    number = math.max(number, tonumber(present) or tonumber(first))
  end
  local text = created == number and tostring(number) or created .. '-' .. number
  if text ~= stored then
    redis.call('HSET', keys[1], args[1], text)
  end
  return { number, created }
end

redis.register_function('@NAME@', merge_partitions)
