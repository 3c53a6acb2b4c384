#!lua name=@NAME@
--
-- lease(state, retry; owner, milliseconds) -> {epoch, checkpoint, retries} or nil where another owner has the lease
--
-- Takes or prolongs the lease on a segment by the server's clock. A lease that is prolonged in time keeps its epoch;
-- any other gets a higher one, and with it every commit of the owner before is refused. 0 milliseconds give it back.
--
--   state  hash  of the segment: ``owner``, ``epoch``, ``leased_until`` (epoch milliseconds), ``checkpoint``
--   retry  set   parked keys that are to be tried again; retries: how many

local function lease(keys, args)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local state = redis.call('HMGET', keys[1], 'owner', 'leased_until', 'epoch', 'checkpoint')
  local held = tonumber(state[2] or 0) > now
  local ours = held and state[1] == args[1]
  local epoch = tonumber(state[3] or 0)
  local milliseconds = tonumber(args[2])
  if milliseconds == 0 then
    if ours then
      redis.call('HSET', keys[1], 'leased_until', 0)
    end
    return nil
  end
  if held and not ours then
    return nil
  end
  if not ours then
    epoch = epoch + 1
  end
  redis.call('HSET', keys[1], 'owner', args[1], 'leased_until', string.format('%.0f', now + milliseconds), 'epoch', epoch)
  return {epoch, tonumber(state[4] or 0), redis.call('SCARD', keys[2])}
end

redis.register_function('@NAME@', lease)
