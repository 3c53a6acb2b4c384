#!lua name=@NAME@
--
-- discard_dead_letter(index, stats, letter; id) -> 1 if it was there, else 0
--
--   index   zset  letter id -> received at
--   stats   hash  ``bytes`` of all letters kept
--   letter  hash  the letter

local function discard(keys, args)
  if redis.call('ZREM', keys[1], args[1]) == 0 then
    return 0
  end
  redis.call('HINCRBY', keys[2], 'bytes', -tonumber(redis.call('HGET', keys[3], 'size') or 0))
  redis.call('DEL', keys[3])
  return 1
end

redis.register_function('@NAME@', discard)
