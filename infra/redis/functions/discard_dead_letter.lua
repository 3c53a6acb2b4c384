#!lua name=@NAME@

--[[
Delete one dead letter.

discard_dead_letter(index, stats, letter; id) -> 1 if the letter existed, else 0

Keys
  index   sorted set  letter id, scored by its number
  stats   hash        bytes: size of all stored letters
  letter  hash        the letter; size: its size in bytes

Arguments
  id      text        id of the letter
]]

local function discard_dead_letter(keys, args)
  if redis.call('ZREM', keys[1], args[1]) == 0 then
    return 0
  end
  redis.call('HINCRBY', keys[2], 'bytes', -tonumber(redis.call('HGET', keys[3], 'size') or 0))
  redis.call('DEL', keys[3])
  return 1
end

-- The function runs on a full server, too: what it does frees memory, or takes next to none.
redis.register_function { function_name = '@NAME@', callback = discard_dead_letter, flags = { 'allow-oom' } }
