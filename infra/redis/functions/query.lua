#!lua name=@NAME@

--[[
Find the first rows of a query in the indexes of a segment, and count all its rows. Writes nothing.

query(key …; sort, sort_key, ends_key, now, descending, limit, after, after_value, after_id,
      filter_count, [texts_key, groups_key, value_count, value …] …,
      [sorted, range_count, [index_key, lowest, highest] …] …) -> {total, [id, sort value] …}

A row matches if each clause has the row in one of its ranges, if each filter by texts has the row's text as a value,
and if the row has not ended. There is at least one clause. Rows are ordered by (sort value, id), ids and texts by their
bytes.

Keys, all in the hash slot of the segment; arguments name a key by its number, from 1, or "0" for none
  index …       sorted set  row ids, scored by a value of the row
  texts …       hash        row id -> text of the row in a column; a row without a text has no entry

Arguments
  sort          "number": by the scores of an index with all rows; "text": by texts; "id": by ids only
  sort_key      the index or the texts to sort by
  ends_key      the index of the times at which rows end
  now           current time, epoch seconds; a row has ended if its end is not after this time
  descending    "1" for descending order, else "0"
  limit         highest number of rows to return; 0 returns only the total
  after         "value": begin after the row with the following sort value and id; "missing": the same for a row without
                a text; "": begin with the first row
  after_value   sort value of that row, "0" to sort by ids
  after_id      id of that row
  filter_count  number of filters by texts
  For each filter by texts:
    texts_key    the texts of a column
    groups_key   the values that stand for the texts of some rows: row id -> value; "0": each text is its own value
    value_count  number of values
    value …      the values
  For each clause:
    sorted       "1" if the scores of its ranges are the sort values, else "0"
    range_count  number of ranges of the clause; no two ranges of a clause have a row in common
    For each range:
      index_key  an index
      lowest     lowest score, included
      highest    highest score, included

Reply
  total             number of rows that match, on all pages
  [id, sort value]  the first rows in the order of the query; the sort value of a row without a text is nil
]]

-- Highest number of ids per command. unpack() puts its values on Lua's stack, which holds 8,000 values.
local MAX_IDS = 1000

-- Whether string a comes before string b by its bytes. Lua's own comparison depends on the server's locale.
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

-- The filters by texts that begin at an argument, and the number of the argument behind them.
local function parse_text_filters(keys, args, at)
  local filters = {}
  local last = at
  for number = 1, tonumber(args[at]) do
    local filter = { texts = keys[tonumber(args[last + 1])], groups = keys[tonumber(args[last + 2])], values = {} }
    if filter.groups and redis.call('EXISTS', filter.groups) == 0 then
      filter.groups = nil
    end
    local first = last + 4
    last = last + 3 + tonumber(args[last + 3])
    for place = first, last do
      filter.values[args[place]] = true
    end
    filters[number] = filter
  end
  return filters, last + 1
end

-- A sort value as it is compared: a number, a text, or false for a missing text. Without values, ids alone decide.
local function comparable(query, value)
  if query.sort == 'text' then
    return value
  end
  return value and tonumber(value) or 0
end

local function parse(keys, args)
  local text_filters, first_clause = parse_text_filters(keys, args, 10)
  local query = {
    sort = args[1],
    sort_key = keys[tonumber(args[2])],
    ends_key = keys[tonumber(args[3])],
    now = tonumber(args[4]),
    descending = args[5] == '1',
    limit = tonumber(args[6]),
    text_filters = text_filters,
    clauses = parse_clauses(keys, args, first_clause),
  }
  if args[7] ~= '' then
    local value = args[7] == 'value' and args[8]
    query.after = { id = args[9], text = value, value = comparable(query, value) }
  end
  query.ended = query.ends_key and redis.call('ZCOUNT', query.ends_key, '-inf', args[4]) or 0
  return query
end

-- Whether row a comes before row b in the order of the query.
local function comes_before(query, a, b)
  if query.descending then
    a, b = b, a
  end
  if a.value == b.value then
    return bytes_before(a.id, b.id)
  elseif query.sort ~= 'text' then
    return a.value < b.value
  end
  return not a.value or (b.value and bytes_before(a.value, b.value))
end

-- The ids with the ranks first to last of an index and, if with_scores, their scores, as two arrays.
local function read_ids(key, first, last, with_scores)
  if not with_scores then
    return redis.call('ZRANGE', key, first, last)
  end
  local reply = redis.call('ZRANGE', key, first, last, 'WITHSCORES')
  local ids, scores = {}, {}
  for at = 1, #reply / 2 do
    ids[at], scores[at] = reply[2 * at - 1], reply[2 * at]
  end
  return ids, scores
end

-- The ids whose place is in the table matches, and their values if there are values.
local function select_ids(matches, ids, values)
  local selected, selected_values, count = {}, values and {}, 0
  for at = 1, #ids do
    if matches[at] then
      count = count + 1
      selected[count] = ids[at]
      if values then
        selected_values[count] = values[at]
      end
    end
  end
  return selected, selected_values
end

-- The ids whose texts are values of the filter.
local function filter_by_texts(filter, ids, values)
  if #ids == 0 then
    return ids, values
  end
  local accepted, matches = filter.values, {}
  local texts = redis.call('HMGET', filter.texts, unpack(ids))
  local groups = filter.groups and redis.call('HMGET', filter.groups, unpack(ids))
  for at = 1, #ids do
    matches[at] = accepted[groups and groups[at] or texts[at]]
  end
  return select_ids(matches, ids, values)
end

-- The ids that are in a range of the clause. If the scores of the clause are the sort values, they replace the values.
local function filter_by_clause(clause, ids, values)
  if #ids == 0 then
    return ids, values
  end
  local matches = {}
  for _, range in ipairs(clause.ranges) do
    local lowest, highest = range.lowest, range.highest
    local scores = redis.call('ZMSCORE', range.key, unpack(ids))
    for at = 1, #ids do
      local score = scores[at] and tonumber(scores[at])
      if score and score >= lowest and score <= highest then
        matches[at] = scores[at]
      end
    end
  end
  return select_ids(matches, ids, clause.sorted and matches or values)
end

local function drop_ended(query, ids, values)
  if query.ended == 0 or #ids == 0 then
    return ids, values
  end
  local ends, unended = redis.call('ZMSCORE', query.ends_key, unpack(ids)), {}
  for at = 1, #ids do
    unended[at] = not ends[at] or tonumber(ends[at]) > query.now
  end
  return select_ids(unended, ids, values)
end

-- The ids that match the texts, the clauses from number first on, and have not ended. Small clauses come first.
local function filter(query, first, ids, values)
  for _, text_filter in ipairs(query.text_filters) do
    ids, values = filter_by_texts(text_filter, ids, values)
  end
  for number = first, #query.clauses do
    ids, values = filter_by_clause(query.clauses[number], ids, values)
  end
  return drop_ended(query, ids, values)
end

-- The number of members of an index that come before the row "after", this row included if "included" is true.
-- A binary search, because ZCOUNT does not distinguish members with the same score.
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

-- Adds to rows the first matching rows of a range whose scores are the sort values, up to the limit of the query.
-- Clauses before number first_clause are known to match.
local function collect_in_order(query, range, first_clause, rows)
  local first, last = range.rank, range.rank + range.count - 1
  if query.after and query.descending then
    last = math.min(last, count_before(range.key, query.after, false) - 1)
  elseif query.after then
    first = math.max(first, count_before(range.key, query.after, true))
  end
  local needed, size = #rows + query.limit, math.min(query.limit, MAX_IDS)
  while first <= last and #rows < needed do
    local ids, texts
    if query.descending then
      ids, texts = read_ids(range.key, math.max(first, last - size + 1), last, true)
      last = last - size
    else
      ids, texts = read_ids(range.key, first, math.min(last, first + size - 1), true)
      first = first + size
    end
    ids, texts = filter(query, first_clause, ids, texts)
    local from, to, step = 1, #ids, 1
    if query.descending then
      from, to, step = #ids, 1, -1
    end
    for at = from, to, step do
      if #rows < needed then
        rows[#rows + 1] = { id = ids[at], text = texts[at], value = tonumber(texts[at]) }
      end
    end
    size = math.min(2 * size, MAX_IDS)
  end
end

-- Sorts the rows and removes those beyond the limit of the query.
local function sort_and_truncate(query, rows)
  table.sort(rows, function(a, b) return comes_before(query, a, b) end)
  for at = #rows, query.limit + 1, -1 do
    rows[at] = nil
  end
end

-- The number of matching rows of a query with a single clause: all rows of the clause except the ended ones.
local function count_single_clause(query)
  local total = query.clauses[1].count
  for first = 0, query.ended - 1, MAX_IDS do
    local ids = read_ids(query.ends_key, first, math.min(first + MAX_IDS, query.ended) - 1)
    total = total - #filter_by_clause(query.clauses[1], ids)
  end
  return total
end

-- The sort values of ids, or nil if ids alone decide. The clauses may have supplied them as values already.
local function sort_values(query, ids, values)
  if query.sort == 'text' then
    return redis.call('HMGET', query.sort_key, unpack(ids))
  elseif query.sort == 'number' then
    return values or redis.call('ZMSCORE', query.sort_key, unpack(ids))
  end
end

-- Adds a row if it comes after the cursor and may belong to the first rows. Returns the last row that may belong to the
-- first rows, or nil while there are fewer rows than the limit. Truncating only at twice the limit keeps sorting cheap.
local function add_candidate(query, rows, worst, row)
  if (worst and not comes_before(query, row, worst))
    or (query.after and not comes_before(query, query.after, row)) then
    return worst
  end
  rows[#rows + 1] = row
  if #rows < 2 * query.limit then
    return worst
  end
  sort_and_truncate(query, rows)
  return rows[query.limit]
end

-- Scans the smallest clause and returns the number of matching rows. If rows is given, adds the candidates to it.
local function scan_smallest_clause(query, rows)
  local smallest = query.clauses[1]
  local total, worst = 0, nil
  for _, range in ipairs(smallest.ranges) do
    local last = range.rank + range.count - 1
    for first = range.rank, last, MAX_IDS do
      local ids, values = read_ids(range.key, first, math.min(first + MAX_IDS - 1, last), smallest.sorted)
      ids, values = filter(query, 2, ids, values)
      total = total + #ids
      if rows and query.limit > 0 and #ids > 0 then
        values = sort_values(query, ids, values)
        for at = 1, #ids do
          local text = values and values[at]
          local row = { id = ids[at], text = text, value = comparable(query, text) }
          worst = add_candidate(query, rows, worst, row)
        end
      end
    end
  end
  return total
end

-- The expected number of rows that collect_in_order reads from the sort index until it has enough matching rows.
local function expected_reads(query)
  return query.limit * redis.call('ZCARD', query.sort_key) / query.clauses[1].count
end

local function run_query(keys, args)
  local query = parse(keys, args)
  local smallest = query.clauses[1]
  local rows, total = {}, 0
  if smallest.count == 0 then
    return { 0 }
  elseif #query.clauses == 1 and smallest.sorted then
    total = #query.text_filters > 0 and scan_smallest_clause(query) or count_single_clause(query)
    for _, range in ipairs(smallest.ranges) do
      collect_in_order(query, range, 2, rows)
    end
    if #smallest.ranges > 1 then
      sort_and_truncate(query, rows)
    end
  elseif #query.clauses == 1 and #query.text_filters == 0 and query.sort == 'number'
    and expected_reads(query) < smallest.count then
    total = count_single_clause(query)
    collect_in_order(query, { key = query.sort_key, rank = 0, count = redis.call('ZCARD', query.sort_key) }, 1, rows)
  else
    total = scan_smallest_clause(query, rows)
    sort_and_truncate(query, rows)
  end
  local reply = { total }
  for _, row in ipairs(rows) do
    reply[#reply + 1], reply[#reply + 2] = row.id, row.text or false
  end
  return reply
end

redis.register_function { function_name = '@NAME@', callback = run_query, flags = { 'no-writes' } }
