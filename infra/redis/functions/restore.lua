#!lua name=@NAME@

--[[
restore: put back what a log has lost, and open it: the step between a server's start and the first append.

A server that comes back, or takes over, may know less than it did: its log is not written to before somebody has
compared it with what others have seen. Several may do so at once; whoever comes late changes nothing.

Keys
  1  log       stream  as in append.lua
  2  meta      hash    as in append.lua
  3  versions  hash    stream -> last version
  4  trimmed   hash    stream -> last version that the log no longer has
  5… one for each different stream of the call: list of its positions, in order of version
Keys that follow from the time of an event, in the same hash slot
  <prefix><n>  hash    event id -> "<position> <version>", for the n-th dedupe window since 1970

Arguments
  1  prefix of the dedupe keys
  2  dedupe window, seconds
  3  id of the log, for one that has none
  4  its epoch, if it is to be opened now; "0": more is to be put back first
  5  position that it must have reached before it is opened
  6  number of streams, then their names in the order of the keys
  … for each event, by position: number of its stream (1…), position, version, topic, event id, recorded_at (ms), state,
    origin; without a topic the event is only remembered, not put back

Reply: "opened" (now or before), "behind" (it has not reached the position) or "restored"; the last position
]]

local FIELDS = 8

local function reign()
  return redis.call('INFO', 'replication'):match('master_replid:(%x+)')
end

local function event_of(args, at)
  return {
    stream = tonumber(args[at]),
    position = tonumber(args[at + 1]),
    version = args[at + 2],
    topic = args[at + 3],
    id = args[at + 4],
    recorded_at = args[at + 5],
    state = args[at + 6],
    origin = args[at + 7],
  }
end

-- No event is earlier than the one before it, whatever the clock of who puts it back.
local function put(keys, args, event)
  local last = redis.call('HGET', keys[2], 'recorded_at')
  if last and tonumber(last) > tonumber(event.recorded_at) then
    event.recorded_at = last
  end
  local name, place = args[6 + event.stream], string.format('%d', event.position)
  if event.topic == '' then
    redis.call('HSET', keys[4], name, event.version)
  else
    redis.call('XADD', keys[1], place .. '-0', 'stream', name, 'version', event.version, 'topic', event.topic,
      'event_id', event.id, 'recorded_at', event.recorded_at, 'state', event.state, 'origin', event.origin)
    redis.call('RPUSH', keys[4 + event.stream], place)
  end
  redis.call('HSET', keys[3], name, event.version)
  redis.call('HSET', keys[2], 'position', place, 'recorded_at', event.recorded_at)
end

-- Only what is still within its two windows: an older id would be forgotten anyway.
local function remember(args, event)
  local seconds = tonumber(args[2])
  local window = math.floor(tonumber(event.recorded_at) / 1000 / seconds)
  local now = tonumber(redis.call('TIME')[1])
  if window >= math.floor(now / seconds) - 1 then
    local key = args[1] .. string.format('%d', window)
    redis.call('HSET', key, event.id, string.format('%d %s', event.position, event.version))
    redis.call('EXPIRE', key, 2 * seconds, 'NX')
  end
end

local function restore(keys, args)
  local meta = redis.call('HMGET', keys[2], 'position', 'reign')
  local position, now = tonumber(meta[1] or 0), reign()
  if meta[2] == now then
    return { 'opened', position }
  end
  redis.call('HSETNX', keys[2], 'id', args[3])
  for at = 7 + tonumber(args[6]), #args, FIELDS do
    local event = event_of(args, at)
    if event.position > position then
      put(keys, args, event)
      remember(args, event)
      position = event.position
    end
  end
  if args[4] == '0' then
    return { 'restored', position }
  elseif position < tonumber(args[5]) then
    return { 'behind', position }
  end
  redis.call('HSET', keys[2], 'epoch', args[4], 'reign', now)
  return { 'opened', position }
end

redis.register_function('@NAME@', restore)
