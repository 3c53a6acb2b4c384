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

local function add_members(members, known, further)
  for key in string.gmatch(members, '[^\n]+') do
    if not known[key] then
      known[key] = true
      further[#further + 1] = key
    end
  end
end

local function find_further_keys(name, wanted, groups)
  local known, all_members, further = {}, {}, {}
  if #groups == 0 then
    return all_members, further
  end
  for _, key in ipairs(wanted) do
    known[key] = true
  end
  for first = 1, #groups, CHUNK do
    local found = redis.call('HMGET', name, unpack(groups, first, math.min(first + CHUNK - 1, #groups)))
    for _, members in ipairs(found) do
      all_members[#all_members + 1] = members
      if members then
        add_members(members, known, further)
      end
    end
  end
  return all_members, further
end

-- Append the documents to the reply, and return how many bytes are left. Negative: the bound is exceeded.
local function append_documents(reply, name, wanted, left)
  for first = 1, #wanted, CHUNK do
    local documents = redis.call('HMGET', name, unpack(wanted, first, math.min(first + CHUNK - 1, #wanted)))
    for _, document in ipairs(documents) do
      reply[#reply + 1] = document
      left = left - (document and #document or 0)
      if left < 0 then
        return left
      end
    end
  end
  return left
end

local function load_rows(keys, args)
  local number = tonumber(args[2])
  local wanted, groups = {}, {}
  for at = 3, #args do
    if at <= number + 2 then
      wanted[#wanted + 1] = args[at]
    else
      groups[#groups + 1] = args[at]
    end
  end
  local members, further = find_further_keys(keys[2], wanted, groups)
  local reply = { members, further }
  local left = append_documents(reply, keys[1], wanted, tonumber(args[1]))
  if left >= 0 then
    append_documents(reply, keys[1], further, left)
  end
  return reply
end

redis.register_function { function_name = '@NAME@', callback = load_rows, flags = { 'no-writes' } }
