#!lua name=@NAME@
--
-- store_dead_letters(index, stats, letter …; now, max_count, max_bytes, oldest, [id, size, count, [field, value] × count] …)
--   -> how many letters were dropped
--
-- Keeps letters, then drops the oldest beyond the bounds. A letter that is already there is only counted once more.
--
--   index       zset  letter id -> its number: 1 for the first ever kept, 2 for the next …
--   stats       hash  ``numbers`` given; ``bytes`` of all letters kept; ``dropped``: letters dropped so far
--   letter …    hash  one for each letter to keep, in order: its fields, ``size``, ``number``, ``kept_at``, ``times``;
--                     the keys of letters to drop follow from the index's
--   now         float epoch seconds
--   max_count   int   letters
--   max_bytes   int   bytes
--   oldest      float epoch seconds; a letter kept before is dropped

local function letter_key(index, id)
  return string.gsub(index, 'index$', 'letter:') .. id
end

local function keep(keys, args)
  local index, stats = keys[1], keys[2]
  local at = 5
  for letter = 3, #keys do
    local key, id, size, last = keys[letter], args[at], args[at + 1], at + 2 + 2 * args[at + 2]
    if redis.call('EXISTS', key) == 0 then
      local number = redis.call('HINCRBY', stats, 'numbers', 1)
      redis.call('HSET', key, 'size', size, 'number', number, 'kept_at', args[1], unpack(args, at + 3, last))
      redis.call('ZADD', index, number, id)
      redis.call('HINCRBY', stats, 'bytes', size)
    end
    redis.call('HINCRBY', key, 'times', 1)
    at = last + 1
  end
  local max_count, max_bytes, oldest = tonumber(args[2]), tonumber(args[3]), tonumber(args[4])
  local dropped = 0
  while true do
    local id = redis.call('ZRANGE', index, 0, 0)[1]
    if not id then
      return dropped
    end
    local key = letter_key(index, id)
    local letter = redis.call('HMGET', key, 'size', 'kept_at')
    if redis.call('ZCARD', index) <= max_count
      and tonumber(redis.call('HGET', stats, 'bytes')) <= max_bytes
      and tonumber(letter[2]) >= oldest then
      return dropped
    end
    redis.call('ZREM', index, id)
    redis.call('DEL', key)
    redis.call('HINCRBY', stats, 'bytes', -letter[1])
    redis.call('HINCRBY', stats, 'dropped', 1)
    dropped = dropped + 1
  end
end

redis.register_function('@NAME@', keep)
