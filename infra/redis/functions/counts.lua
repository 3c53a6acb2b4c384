#!lua name=@NAME@

--[[
Read a part of the counts of a segment, and of the rows that have ended but are still counted. Writes nothing.

counts(rows, ends, count …; now, offset, limit) -> {ended, documents, counts …}

Keys, all in the hash slot of the segment
  rows       hash        row id -> document
  ends       sorted set  row ids, scored by the epoch second at which the row ends
  count …    sorted set  group, scored by its number of rows; one per count

Arguments
  now        float       current time, epoch seconds; a row has ended if its end is not after this time
  offset     integer     number of ended rows, and of groups of each count, to skip
  limit      integer     highest number of ended rows, and of groups of each count, to return; at most 1000

Reply
  ended      number of all ended rows
  documents  documents of the ended rows, from the offset on
  counts …   for each count: number of all groups, then group, number of rows, … in descending order, from the offset on
]]

local function counts(keys, args)
  local ended = redis.call('ZCOUNT', keys[2], '-inf', args[1])
  local first = tonumber(args[2])
  local last = first + tonumber(args[3]) - 1
  local ids = first < ended and redis.call('ZRANGE', keys[2], first, math.min(last, ended - 1)) or {}
  local reply = { ended, #ids > 0 and redis.call('HMGET', keys[1], unpack(ids)) or {} }
  for number = 3, #keys do
    local count = redis.call('ZRANGE', keys[number], first, last, 'REV', 'WITHSCORES')
    table.insert(count, 1, redis.call('ZCARD', keys[number]))
    reply[#reply + 1] = count
  end
  return reply
end

redis.register_function { function_name = '@NAME@', callback = counts, flags = { 'no-writes' } }
