#!lua name=@NAME@

--[[
insert_versions: add events to sequences in which each version occurs once, all or nothing.

Keys
  1… one for each different sequence of the call: sorted set of members, scored by version

Arguments
  for each event: number of its key (1…), version, member
A member is unlike any other, and a repeat of the call carries the same.

Reply: nil, or the number of the first event (0…) whose version is taken
]]

local FIELDS = 3

local function insert_versions(keys, args)
  local new = {}
  for at = 1, #args, FIELDS do
    local key, version, member = keys[tonumber(args[at])], args[at + 1], args[at + 2]
    local place = version .. ' ' .. key
    local taken = new[place] or redis.call('ZRANGE', key, version, version, 'BYSCORE')[1]
    if taken and taken ~= member then
      return (at - 1) / FIELDS
    end
    new[place] = member
  end
  for at = 1, #args, FIELDS do
    redis.call('ZADD', keys[tonumber(args[at])], args[at + 1], args[at + 2])
  end
  return false
end

redis.register_function('@NAME@', insert_versions)
