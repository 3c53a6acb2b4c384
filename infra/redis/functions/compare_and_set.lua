#!lua name=@NAME@

--[[
Replace a value if it has not changed since the caller read it.

compare_and_set(key; expected, new) -> 1 if the value was replaced, else 0

Keys
  key       string  the value

Arguments
  expected  text    value that the caller has read; "" for a key that does not exist
  new       text    value to store
]]

local function compare_and_set(keys, args)
  if (redis.call('GET', keys[1]) or '') ~= args[1] then
    return 0
  end
  redis.call('SET', keys[1], args[2])
  return 1
end

redis.register_function('@NAME@', compare_and_set)
