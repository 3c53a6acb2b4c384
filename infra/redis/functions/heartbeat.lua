#!lua name=@NAME@

--[[
Write the heartbeat of a process, by the server's clock.

heartbeat(moments, errors; process, age, error, keep) -> 1

Keys, both in one hash slot
  moments  sorted set  process, scored by the epoch millisecond at which its slowest thread last did its work
  errors   hash        process -> "<epoch millisecond of this call> <error>"

Arguments
  process  text     name of the process
  age      integer  milliseconds since the slowest thread did its work; empty: it never did
  error    text     why the thread cannot do its work; empty: there is no error
  keep     integer  milliseconds after which the heartbeat of another process is removed

The function runs on a full server, too: a process must not look dead because of the memory.
]]

local function heartbeat(keys, args)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  if args[2] ~= '' then
    redis.call('ZADD', keys[1], string.format('%.0f', now - args[2]), args[1])
  end
  redis.call('HSET', keys[2], args[1], string.format('%.0f', now) .. ' ' .. args[3])
  local ended = redis.call('ZRANGE', keys[1], '-inf', string.format('(%.0f', now - args[4]), 'BYSCORE', 'LIMIT', 0, 100)
  for _, process in ipairs(ended) do
    redis.call('ZREM', keys[1], process)
    redis.call('HDEL', keys[2], process)
  end
  return 1
end

redis.register_function { function_name = '@NAME@', callback = heartbeat, flags = { 'allow-oom' } }
