#!lua name=@NAME@

--[[
statistics: a segment's counts, and the rows that have elapsed but are still counted; writes nothing.

Keys
  1   rows       hash        row id -> document
  2   expiry     sorted set  row ids by the epoch second at which they elapse
  3   by symbol  sorted set  symbol -> how many rows
  4…  counts     sorted sets  group -> how many rows

Arguments
  1  now: a row whose expiry is not after it has elapsed
  2  elapsed rows to pass over
  3  elapsed rows to tell of, at most
  4  groups of each count, at most; as many more as elapsed rows are told of, so that the most frequent are known
     without them too

Reply: how many rows have elapsed; their documents; symbol, count … of their symbols; then for each count, ``by
symbol`` the first: how many groups it has, then group, count …, the most frequent first
]]

local function symbol_of(id)
  return id:match('^(.*):[^:]*:[^:]*:[^:]*$') or id
end

local function counts_of_symbols(by_symbol, ids)
  local reply, told = {}, {}
  for _, id in ipairs(ids) do
    local symbol = symbol_of(id)
    if not told[symbol] then
      told[symbol] = true
      reply[#reply + 1], reply[#reply + 2] = symbol, redis.call('ZSCORE', by_symbol, symbol)
    end
  end
  return reply
end

local function statistics(keys, args)
  local elapsed = redis.call('ZCOUNT', keys[2], '-inf', args[1])
  local first, last = tonumber(args[2]), math.min(tonumber(args[2]) + tonumber(args[3]), elapsed) - 1
  local ids = first <= last and redis.call('ZRANGE', keys[2], first, last) or {}
  local documents = first <= last and redis.call('HMGET', keys[1], unpack(ids)) or {}
  local reply = { elapsed, documents, counts_of_symbols(keys[3], ids) }
  for number = 3, #keys do
    local count = redis.call('ZRANGE', keys[number], 0, tonumber(args[4]) + #ids - 1, 'REV', 'WITHSCORES')
    table.insert(count, 1, redis.call('ZCARD', keys[number]))
    reply[#reply + 1] = count
  end
  return reply
end

redis.register_function { function_name = '@NAME@', callback = statistics, flags = { 'no-writes' } }
