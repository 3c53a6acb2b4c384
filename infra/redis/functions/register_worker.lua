#!lua name=@NAME@

--[[
Register a worker as alive for a while, and count the workers that are alive.

register_worker(workers; worker, milliseconds) -> {place, count}

Keys
  workers       sorted set  worker, scored by the epoch millisecond until which it counts as alive (server's clock)

Arguments
  worker        text        name of the worker; in the registry of running code, its name and a code that it carries
  milliseconds  integer     time for which the worker counts as alive; 0 removes the worker

Reply
  place  place of the worker, from 0, among the workers that are alive, ordered by name
  count  number of workers that are alive
]]

local function register_worker(keys, args)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  if args[2] == '0' then
    redis.call('ZREM', keys[1], args[1])
    return {0, redis.call('ZCARD', keys[1])}
  end
  redis.call('ZADD', keys[1], now + args[2], args[1])
  redis.call('ZREMRANGEBYSCORE', keys[1], '-inf', now)
  local members = redis.call('ZRANGE', keys[1], 0, -1)
  table.sort(members)
  for place, member in ipairs(members) do
    if member == args[1] then
      return {place - 1, #members}
    end
  end
end

-- The function runs on a full server, too: what it does frees memory, or takes next to none.
redis.register_function { function_name = '@NAME@', callback = register_worker, flags = { 'allow-oom' } }
