#!lua name=@NAME@

--[[
Merge keys of users into the stored keys: a higher generation replaces a lower one, and a destroyed key replaces the key
of the same generation. The order of the merges is therefore irrelevant, and a destroyed key never comes back.

merge_user_keys(keys, meta; must_be_open, [user, generation, secret] …) -> stored value of each user after the merge

Keys, all in the hash slot of the log
  keys      hash    user -> "<generation> <secret>"; without a secret, the key is destroyed
  meta      hash    reign: server incarnation under which the log is open

Arguments
  must_be_open  1 to write nothing, and to return an empty list, unless the log is open. A server that was restarted or
                replaced may have lost keys, and gets them back when the log is opened. A new key must not take their
                place before.
  For each user:
    user        id of the user
    generation  generation of the key, from 1
    secret      the key, or "" to destroy the keys up to this generation
]]

-- The server incarnation: the server changes this id when it is started and when it becomes the primary.
local function server_incarnation()
  return redis.call('INFO', 'replication'):match('master_replid:(%x+)')
end

local function merge_user_keys(keys, args)
  if args[1] == '1' and redis.call('HGET', keys[2], 'reign') ~= server_incarnation() then
    return {}
  end
  local reply = {}
  for at = 2, #args, 3 do
    local user, generation, secret = args[at], tonumber(args[at + 1]), args[at + 2]
    local stored = redis.call('HGET', keys[1], user)
    local stored_generation, stored_secret = 0, ''
    if stored then
      local space = stored:find(' ', 1, true)
      stored_generation, stored_secret = tonumber(stored:sub(1, space - 1)), stored:sub(space + 1)
    end
    if generation > stored_generation or (generation == stored_generation and secret == '' and stored_secret ~= '') then
      stored = string.format('%d ', generation) .. secret
      redis.call('HSET', keys[1], user, stored)
    end
    reply[#reply + 1] = stored
  end
  return reply
end

redis.register_function('@NAME@', merge_user_keys)
