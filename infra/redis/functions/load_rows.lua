#!lua name=@NAME@

--[[
Read the documents of rows and of the members of groups, bounded by their bytes.

load_rows(rows, groups; bytes, number, key …, group …) -> {{members or false, …}, {further key, …}, document or false, …}

Keys
  rows    hash     row key -> document
  groups  hash     group -> keys of its rows, separated by line feeds

Arguments
  bytes   integer  bound of the bytes of all documents; the document that exceeds the bound is the last one
  number  integer  the number of keys
  key     string   keys of the rows, in any number
  group   string   groups, in any number

Reply: the members of each group, the keys of rows that only groups name, and the documents of the keys and of the
further keys, in their order; fewer documents if the bound was exceeded
]]

-- Number of fields that are read at once, and so documents beyond the bound.
local CHUNK = 16

-- Call a function with the values of the fields from the first to the last name, until it returns true.
local function read_fields(name, names, first, last, use)
  for start = first, last, CHUNK do
    for _, value in ipairs(redis.call('HMGET', name, unpack(names, start, math.min(start + CHUNK - 1, last)))) do
      if use(value) then
        return
      end
    end
  end
end

-- Return the members of the groups, and the keys that only groups name. The groups are behind the keys.
local function find_members(name, args, last_key)
  local all_members, further, known = {}, {}, {}
  if last_key == #args then
    return all_members, further
  end
  for at = 3, last_key do
    known[args[at]] = true
  end
  read_fields(name, args, last_key + 1, #args, function(members)
    all_members[#all_members + 1] = members
    for key in string.gmatch(members or '', '[^\n]+') do
      if not known[key] then
        known[key] = true
        further[#further + 1] = key
      end
    end
  end)
  return all_members, further
end

local function load_rows(keys, args)
  local left, last_key = tonumber(args[1]), args[2] + 2
  local members, further = find_members(keys[2], args, last_key)
  local reply = { members, further }
  local function append_document(document)
    reply[#reply + 1] = document
    left = left - (document and #document or 0)
    return left < 0
  end
  read_fields(keys[1], args, 3, last_key, append_document)
  if left >= 0 then
    read_fields(keys[1], further, 1, #further, append_document)
  end
  return reply
end

redis.register_function { function_name = '@NAME@', callback = load_rows, flags = { 'no-writes' } }
