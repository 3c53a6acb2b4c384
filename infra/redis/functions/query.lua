#!lua name=@NAME@

--[[
query: the first rows of an answer from a segment's indexes, and how many rows it has; writes nothing.

A row is in the answer if every clause has it in one of its ranges, its symbol is among the symbols, if any are given,
and it has not elapsed. Its symbol is its id up to the third colon from the right. Rows are ordered by (sort value, id),
ids by their bytes.

Keys
  1…  the indexes that the arguments name by number: sorted sets of row ids

Arguments
  1  number of the index to sort by; "0": by symbol
  2  number of the index of expiries; "0": rows do not elapse
  3  now: a row whose expiry is not after it has elapsed
  4  "1" for descending order, else "0"
  5  rows, at most; 0: only the total is wanted
  6  sort value of the row behind which to begin, or ""
  7  id of that row, or ""
  8  how many symbols follow; "-1": rows of every symbol are in the answer
  … the symbols
  … for each clause: "1" if its scores are the sort values, else "0"; number of ranges; then for each range:
    number of its index, lowest score, highest score. No row is in two ranges of one clause.

Reply: the total, then for each row: id, sort value
]]

-- Ids read or tested by one command; unpack() puts them on Lua's stack, which holds 8,000.
local CHUNK = 1000

-- Lua's own comparison of strings follows the server's locale.
local function bytes_before(a, b)
  for at = 1, math.min(#a, #b) do
    local x, y = a:byte(at), b:byte(at)
    if x ~= y then
      return x < y
    end
  end
  return #a < #b
end

local function parse_clauses(keys, args, at)
  local clauses = {}
  while at <= #args do
    local clause = { sorted = args[at] == '1', ranges = {}, count = 0 }
    local last = at + 1 + 3 * tonumber(args[at + 1])
    for first = at + 2, last, 3 do
      local key, lowest, highest = keys[tonumber(args[first])], args[first + 1], args[first + 2]
      local range = { key = key, lowest = tonumber(lowest), highest = tonumber(highest) }
      range.count = redis.call('ZCOUNT', key, lowest, highest)
      range.rank = range.count > 0 and redis.call('ZCOUNT', key, '-inf', '(' .. lowest) or 0
      clause.ranges[#clause.ranges + 1] = range
      clause.count = clause.count + range.count
    end
    clauses[#clauses + 1] = clause
    at = last + 1
  end
  table.sort(clauses, function(a, b) return a.count < b.count end)
  return clauses
end

local function parse_symbols(args, count)
  local symbols = {}
  for at = 9, 8 + count do
    symbols[args[at]] = true
  end
  return symbols
end

local function parse(keys, args)
  local symbols = tonumber(args[8])
  local query = {
    sort_key = keys[tonumber(args[1])],
    expiry_key = keys[tonumber(args[2])],
    now = tonumber(args[3]),
    descending = args[4] == '1',
    limit = tonumber(args[5]),
    symbols = symbols >= 0 and parse_symbols(args, symbols),
    clauses = parse_clauses(keys, args, 9 + math.max(symbols, 0)),
  }
  if args[7] ~= '' then
    query.after = { id = args[7], text = args[6], value = query.sort_key and tonumber(args[6]) or args[6] }
  end
  query.elapsed = query.expiry_key and redis.call('ZCOUNT', query.expiry_key, '-inf', args[3]) or 0
  return query
end

-- Whether row a comes before row b.
local function comes_before(query, a, b)
  if query.descending then
    a, b = b, a
  end
  if a.value == b.value then
    return bytes_before(a.id, b.id)
  elseif query.sort_key then
    return a.value < b.value
  end
  return bytes_before(a.value, b.value)
end

-- The ids of an index by ranks [first, last], and their scores if these are wanted, as two arrays.
local function read(key, first, last, with_scores)
  if not with_scores then
    return redis.call('ZRANGE', key, first, last)
  end
  local reply = redis.call('ZRANGE', key, first, last, 'WITHSCORES')
  local ids, scores = {}, {}
  for at = 1, #reply, 2 do
    ids[#ids + 1], scores[#scores + 1] = reply[at], reply[at + 1]
  end
  return ids, scores
end

-- Those of the ids that are marked, with their values if they have any.
local function marked(marks, ids, values)
  local left, left_values = {}, values and {}
  for at = 1, #ids do
    if marks[at] then
      left[#left + 1] = ids[at]
      if values then
        left_values[#left] = values[at]
      end
    end
  end
  return left, left_values
end

-- The shortest that fits is the only one, and is found soonest.
local function symbol_of(id)
  return id:match('^(.-):[^:]*:[^:]*:[^:]*$') or id
end

local function of_symbols(query, ids, values)
  if not query.symbols then
    return ids, values
  end
  local passed = {}
  for at = 1, #ids do
    passed[at] = query.symbols[symbol_of(ids[at])]
  end
  return marked(passed, ids, values)
end

-- Those of the ids that are in a range of the clause; their values are their scores there if these are sort values.
local function narrow(clause, ids, values)
  if #ids == 0 then
    return ids, values
  end
  local passed = {}
  for _, range in ipairs(clause.ranges) do
    local lowest, highest = range.lowest, range.highest
    local scores = redis.call('ZMSCORE', range.key, unpack(ids))
    for at = 1, #ids do
      local score = scores[at] and tonumber(scores[at])
      if score and score >= lowest and score <= highest then
        passed[at] = scores[at]
      end
    end
  end
  return marked(passed, ids, clause.sorted and passed or values)
end

local function drop_elapsed(query, ids, values)
  if query.elapsed == 0 or #ids == 0 then
    return ids, values
  end
  local expiries, current = redis.call('ZMSCORE', query.expiry_key, unpack(ids)), {}
  for at = 1, #ids do
    current[at] = not expiries[at] or tonumber(expiries[at]) > query.now
  end
  return marked(current, ids, values)
end

-- Those of the ids that are in the answer, as far as the clauses from the given one on say; the smallest first.
local function in_answer(query, first, ids, values)
  ids, values = of_symbols(query, ids, values)
  for number = first, #query.clauses do
    ids, values = narrow(query.clauses[number], ids, values)
  end
  return drop_elapsed(query, ids, values)
end

-- How many members of an index come before (value, id), that one included if so asked.
local function count_before(key, after, included)
  local low = redis.call('ZCOUNT', key, '-inf', '(' .. after.text)
  local high = low + redis.call('ZCOUNT', key, after.text, after.text)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local id = redis.call('ZRANGE', key, middle, middle)[1]
    if bytes_before(id, after.id) or (included and id == after.id) then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

-- The first rows of a range whose scores are the sort values, added to rows; clauses from the given one on are tested.
local function walk(query, range, first_clause, rows)
  local first, last = range.rank, range.rank + range.count - 1
  if query.after and query.descending then
    last = math.min(last, count_before(range.key, query.after, false) - 1)
  elseif query.after then
    first = math.max(first, count_before(range.key, query.after, true))
  end
  local wanted, size = #rows + query.limit, math.min(query.limit, CHUNK)
  while first <= last and #rows < wanted do
    local ids, texts
    if query.descending then
      ids, texts = read(range.key, math.max(first, last - size + 1), last, true)
      last = last - size
    else
      ids, texts = read(range.key, first, math.min(last, first + size - 1), true)
      first = first + size
    end
    ids, texts = in_answer(query, first_clause, ids, texts)
    local from, to, step = 1, #ids, 1
    if query.descending then
      from, to, step = #ids, 1, -1
    end
    for at = from, to, step do
      if #rows < wanted then
        rows[#rows + 1] = { id = ids[at], text = texts[at], value = tonumber(texts[at]) }
      end
    end
    size = math.min(2 * size, CHUNK)
  end
end

local function sort_and_cut(query, rows)
  table.sort(rows, function(a, b) return comes_before(query, a, b) end)
  for at = #rows, query.limit + 1, -1 do
    rows[at] = nil
  end
end

-- What an answer of a single clause has: all of the clause but what has elapsed.
local function count_clause(query)
  local total = query.clauses[1].count
  for first = 0, query.elapsed - 1, CHUNK do
    local ids = read(query.expiry_key, first, math.min(first + CHUNK, query.elapsed) - 1)
    total = total - #narrow(query.clauses[1], ids)
  end
  return total
end

local function symbols_of(ids)
  local symbols = {}
  for at = 1, #ids do
    symbols[at] = symbol_of(ids[at])
  end
  return symbols
end

-- The sort values of ids, as they are written; the values, if the clauses have given any.
local function sort_values(query, ids, values)
  if not query.sort_key then
    return symbols_of(ids)
  end
  return values or redis.call('ZMSCORE', query.sort_key, unpack(ids))
end

-- Adds a row if it is behind the cursor and may be among the first; gives the last that still is.
local function keep(query, rows, worst, row)
  if (worst and not comes_before(query, row, worst))
    or (query.after and not comes_before(query, query.after, row)) then
    return worst
  end
  rows[#rows + 1] = row
  if #rows < 2 * query.limit then
    return worst
  end
  sort_and_cut(query, rows)
  return rows[query.limit]
end

-- Goes through the smallest clause, counts what is in the answer and, if rows are given, keeps the first of it in them.
local function gather(query, rows)
  local smallest = query.clauses[1]
  local total, worst = 0, nil
  for _, range in ipairs(smallest.ranges) do
    local last = range.rank + range.count - 1
    for first = range.rank, last, CHUNK do
      local ids, values = read(range.key, first, math.min(first + CHUNK - 1, last), smallest.sorted)
      ids, values = in_answer(query, 2, ids, values)
      total = total + #ids
      if rows and query.limit > 0 and #ids > 0 then
        values = sort_values(query, ids, values)
        for at = 1, #ids do
          local text = values[at]
          local row = { id = ids[at], text = text, value = query.sort_key and tonumber(text) or text }
          worst = keep(query, rows, worst, row)
        end
      end
    end
  end
  return total
end

-- How many rows a walk along the whole sort index would meet before it has found enough.
local function rows_to_meet(query)
  return query.limit * redis.call('ZCARD', query.sort_key) / query.clauses[1].count
end

local function answer(keys, args)
  local query = parse(keys, args)
  local smallest = query.clauses[1]
  local rows, total = {}, 0
  if smallest.count == 0 then
    return { 0 }
  elseif #query.clauses == 1 and smallest.sorted then
    total = query.symbols and gather(query) or count_clause(query)
    for _, range in ipairs(smallest.ranges) do
      walk(query, range, 2, rows)
    end
    if #smallest.ranges > 1 then
      sort_and_cut(query, rows)
    end
  elseif #query.clauses == 1 and not query.symbols and query.sort_key and rows_to_meet(query) < smallest.count then
    total = count_clause(query)
    walk(query, { key = query.sort_key, rank = 0, count = redis.call('ZCARD', query.sort_key) }, 1, rows)
  else
    total = gather(query, rows)
    sort_and_cut(query, rows)
  end
  local reply = { total }
  for _, row in ipairs(rows) do
    reply[#reply + 1], reply[#reply + 2] = row.id, row.text
  end
  return reply
end

redis.register_function { function_name = '@NAME@', callback = answer, flags = { 'no-writes' } }
