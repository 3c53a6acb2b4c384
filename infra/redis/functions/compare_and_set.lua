#!lua name=@NAME@
--
-- compare_and_set(key; expected, new) -> 1 if the value was the expected one, else 0
--
-- Replaces a value that is still what the caller has read; an empty text stands for a key that is not there.
--
--   key  string

local function exchange(keys, args)
  if (redis.call('GET', keys[1]) or '') ~= args[1] then
    return 0
  end
  redis.call('SET', keys[1], args[2])
  return 1
end

redis.register_function('@NAME@', exchange)
