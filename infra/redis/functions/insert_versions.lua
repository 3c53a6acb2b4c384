#!lua name=@NAME@

--[[
Add events to sequences in which each version occurs once, all or nothing.

insert_versions(sequence …; [key_number, version, member] …) -> nil or the number of a conflicting event

Keys
  sequence …  sorted set  one per sequence of the call: serialized events, scored by version

Arguments, for each event
  key_number  integer     number of the key of its sequence, from 1
  version     integer     version of the event
  member      text        serialized event; it begins with a random text, so that only a repeat of the call has the
                          same member

Replies
  nil                      all events are stored
  number, from 0           the first event whose version another event has already; nothing is written
]]

-- Number of arguments per event.
local ARGUMENTS_PER_EVENT = 3

local function insert_versions(keys, args)
  local new = {}
  for at = 1, #args, ARGUMENTS_PER_EVENT do
    local key, version, member = keys[tonumber(args[at])], args[at + 1], args[at + 2]
    local place = version .. ' ' .. key
    local taken = new[place] or redis.call('ZRANGE', key, version, version, 'BYSCORE')[1]
    if taken and taken ~= member then
      return (at - 1) / ARGUMENTS_PER_EVENT
    end
    new[place] = member
  end
  for at = 1, #args, ARGUMENTS_PER_EVENT do
    redis.call('ZADD', keys[tonumber(args[at])], args[at + 1], args[at + 2])
  end
  return false
end

redis.register_function('@NAME@', insert_versions)
