#!lua name=@NAME@

--[[
Store dead letters, then drop the oldest beyond the bounds.

store_dead_letters(index, stats, letter …;
                   now, max_count, max_bytes, oldest, [id, size, field_count, [field, value] …] …) -> number dropped

A letter that is stored already is only counted once more.

Keys
  index      sorted set  letter id, scored by its number: 1 for the first letter ever stored, 2 for the next
  stats      hash        numbers: highest number; bytes: size of all stored letters; dropped: letters dropped so far
  letter …   hash        one per letter to store: its fields, and size (bytes), number, kept_at (epoch seconds), times
                         (how often the letter arrived)
Undeclared keys, in the same hash slot
  The keys of the letters to drop; they follow from the key of the index and the letter's id.

Arguments
  now        float       current time, epoch seconds
  max_count  integer     highest number of letters
  max_bytes  integer     highest size of all letters, bytes
  oldest     float       epoch seconds; letters stored earlier are dropped
  For each letter, in the order of the keys:
    id           text     id of the letter
    size         integer  size of its payload, bytes
    field_count  integer  number of pairs of field and value that follow

Reply: number of letters dropped by this call
]]

local function letter_key(index, id)
  return string.gsub(index, 'index$', 'letter:') .. id
end

local function store_dead_letters(keys, args)
  local index, stats = keys[1], keys[2]
  local at = 5
  for letter = 3, #keys do
    local key, id, size, last = keys[letter], args[at], args[at + 1], at + 2 + 2 * args[at + 2]
    if redis.call('HEXISTS', key, 'number') == 0 then
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

redis.register_function('@NAME@', store_dead_letters)
