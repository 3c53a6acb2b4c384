#!lua name=@NAME@

--[[
Acquire, extend or release the lease on a segment, by the server's clock.

lease(state, retry; owner, milliseconds) -> {epoch, checkpoint, retries} or nil

A lease that is extended before it ends keeps its epoch. Every other acquisition increments the epoch, so that the fence
refuses every commit of the previous owner.

Keys, both in the hash slot of the segment
  state         hash     owner; epoch; leased_until: end of the lease, epoch milliseconds; checkpoint
  retry         set      parked keys whose retry an operator has requested

Arguments
  owner         text     name of the worker
  milliseconds  integer  duration of the lease; 0 releases a lease that the worker holds

Replies
  {epoch, checkpoint, retries}  the worker holds the lease; retries: number of parked keys to retry
  nil                           another owner holds the lease, or the lease is released
]]

local function lease(keys, args)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local state = redis.call('HMGET', keys[1], 'owner', 'leased_until', 'epoch', 'checkpoint')
  local held = tonumber(state[2] or 0) > now
  local held_by_caller = held and state[1] == args[1]
  local epoch = tonumber(state[3] or 0)
  local milliseconds = tonumber(args[2])
  if milliseconds == 0 then
    if held_by_caller then
      redis.call('HSET', keys[1], 'leased_until', 0)
    end
    return nil
  end
  if held and not held_by_caller then
    return nil
  end
  if not held_by_caller then
    epoch = epoch + 1
  end
  local leased_until = string.format('%.0f', now + milliseconds)
  redis.call('HSET', keys[1], 'owner', args[1], 'leased_until', leased_until, 'epoch', epoch)
  return {epoch, tonumber(state[4] or 0), redis.call('SCARD', keys[2])}
end

-- The function runs on a full server, too: what it does frees memory, or takes next to none.
redis.register_function { function_name = '@NAME@', callback = lease, flags = { 'allow-oom' } }
