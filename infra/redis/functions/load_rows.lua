#!lua name=@NAME@

--[[
Read the documents of rows, bounded by their bytes.

load_rows(rows; bytes, key, …) -> {document or false, …}

Keys
  rows   hash     row key -> document

Arguments
  bytes  integer  bound of the bytes of all documents; the document that exceeds the bound is the last one
  key    string   keys of the rows, in any number

Reply: the documents in the order of the keys; fewer than keys if the bound was exceeded
]]

-- Number of documents that are read at once, and so beyond the bound.
local CHUNK = 16

local function load_rows(keys, args)
  local left = tonumber(args[1])
  local reply = {}
  for first = 2, #args, CHUNK do
    local documents = redis.call('HMGET', keys[1], unpack(args, first, math.min(first + CHUNK - 1, #args)))
    for _, document in ipairs(documents) do
      reply[#reply + 1] = document
      left = left - (document and #document or 0)
      if left < 0 then
        return reply
      end
    end
  end
  return reply
end

redis.register_function { function_name = '@NAME@', callback = load_rows, flags = { 'no-writes' } }
