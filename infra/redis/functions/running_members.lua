#!lua name=@NAME@

--[[
Read the members of a registry that count as running now, by the clock of the server.

running_members(registry) -> {member, …}, ordered by name

Keys
  registry  sorted set  member, scored by the epoch millisecond until which it counts as running
]]

local function running_members(keys)
  local time = redis.call('TIME')
  local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  local members = redis.call('ZRANGE', keys[1], '(' .. now, '+inf', 'BYSCORE')
  table.sort(members)
  return members
end

redis.register_function { function_name = '@NAME@', callback = running_members, flags = { 'no-writes' } }
