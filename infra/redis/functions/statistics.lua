#!lua name=@NAME@

--[[
Read the counts of a segment, and the rows that have expired but are still counted. Writes nothing.

statistics(rows, expiry, by_symbol, count …; now, offset, limit, groups) -> {expired, documents, symbols, counts …}

Keys, all in the hash slot of the segment
  rows       hash        row id -> document
  expiry     sorted set  row ids, scored by the epoch second at which they expire
  by_symbol  sorted set  symbol, scored by its number of rows
  count …    sorted set  group, scored by its number of rows; one per further count

Arguments
  now        float       current time, epoch seconds; a row whose expiry is not after this time has expired
  offset     integer     number of expired rows to skip
  limit      integer     highest number of expired rows to return
  groups     integer     highest number of groups per count; the reply has as many more groups as it has expired rows,
                         so that the caller can subtract these rows and still knows the most frequent groups

Reply
  expired    number of all expired rows
  documents  documents of the expired rows, from the offset on
  symbols    symbol, number of rows, … for the symbols of these rows
  counts …   for by_symbol and each further count: number of groups, then group, number of rows, … in descending order
]]

local function symbol_of(id)
  return id:match('^(.*):[^:]*:[^:]*:[^:]*$') or id
end

local function counts_of_symbols(by_symbol, ids)
  local reply, seen = {}, {}
  for _, id in ipairs(ids) do
    local symbol = symbol_of(id)
    if not seen[symbol] then
      seen[symbol] = true
      reply[#reply + 1], reply[#reply + 2] = symbol, redis.call('ZSCORE', by_symbol, symbol)
    end
  end
  return reply
end

local function statistics(keys, args)
  local expired = redis.call('ZCOUNT', keys[2], '-inf', args[1])
  local first, last = tonumber(args[2]), math.min(tonumber(args[2]) + tonumber(args[3]), expired) - 1
  local ids = first <= last and redis.call('ZRANGE', keys[2], first, last) or {}
  local documents = first <= last and redis.call('HMGET', keys[1], unpack(ids)) or {}
  local reply = { expired, documents, counts_of_symbols(keys[3], ids) }
  for number = 3, #keys do
    local count = redis.call('ZRANGE', keys[number], 0, tonumber(args[4]) + #ids - 1, 'REV', 'WITHSCORES')
    table.insert(count, 1, redis.call('ZCARD', keys[number]))
    reply[#reply + 1] = count
  end
  return reply
end

redis.register_function { function_name = '@NAME@', callback = statistics, flags = { 'no-writes' } }
