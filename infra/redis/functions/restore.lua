#!lua name=@NAME@

--[[
Restore the events that a log has lost, and open the log for appends.

restore(log, meta, versions, trimmed, positions …;
        ids_prefix, window, id, epoch, required_position, stream_count, stream …,
        [stream_number, position, version, topic, event_id, recorded_at, state, origin] …) -> {outcome, position}

A server that was restarted, or became the primary, may have lost the end of its logs. It accepts appends to a log only
after the log was compared with the archive and the read models, and opened by this function. Several processes may do
so at the same time: a call on an open log changes nothing.

Keys, all in the hash slot of the log
  log         stream   entries as in append.lua
  meta        hash     as in append.lua
  versions    hash     stream -> its last version
  trimmed     hash     stream -> last version that was trimmed from the log
  positions … list     one per stream of the call: the positions of its events, in order of version
Undeclared keys, computed from the time of an event, in the same hash slot
  <ids_prefix><n> hash event id -> "<position> <version>", for the n-th dedupe window since 1970

Arguments
  ids_prefix         prefix of the keys of the dedupe windows
  window             length of a dedupe window, seconds
  id                 id that the log gets if it has none
  epoch              epoch under which to open the log now; "0" leaves it closed, because more events follow
  required_position  position that the log must have reached before it is opened
  stream_count       number of streams of the call
  stream …           names of the streams, in the order of the keys "positions …"
  For each event, in order of position:
    stream_number      number of its stream, from 1
    position           position of the event
    version            version of the event
    topic              topic of the event; "" for an event that is not stored again: only its version and its id are
    event_id           id of the event
    recorded_at        time of the original append, epoch milliseconds
    state              serialized event
    origin             way by which the event arrived

Outcomes, with the last position of the log
  "opened"    the log is open, since this call or since an earlier one
  "behind"    the log has not reached the required position; it stays closed
  "restored"  the events are restored; the log stays closed
]]

-- Number of arguments per event.
local ARGUMENTS_PER_EVENT = 8

-- As in append.lua.
local LARGE_STATE = 8192

-- As in append.lua.
local function server_incarnation()
  return redis.call('INFO', 'replication'):match('master_replid:(%x+)')
end

local function parse_event(args, at)
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

-- recorded_at never decreases along a log: an event gets at least the time of its predecessor.
local function adjust_time(keys, event)
  local last = redis.call('HGET', keys[2], 'recorded_at')
  if last and tonumber(last) > tonumber(event.recorded_at) then
    event.recorded_at = last
  end
end

local function store_event(keys, args, event)
  local name, position = args[6 + event.stream], string.format('%d', event.position)
  if event.topic == '' then
    redis.call('HSET', keys[4], name, event.version)
  else
    redis.call('XADD', keys[1], position .. '-0', 'stream', name, 'version', event.version, 'topic', event.topic,
      'event_id', event.id, 'recorded_at', event.recorded_at, 'state', event.state, 'origin', event.origin)
    redis.call('RPUSH', keys[4 + event.stream], position)
    if #event.state >= LARGE_STATE then
      redis.call('HSET', keys[2], 'large', position)
    end
  end
  redis.call('HSET', keys[3], name, event.version)
  redis.call('HSET', keys[2], 'position', position, 'recorded_at', event.recorded_at)
end

-- An id that is older than two dedupe windows is not stored: its key would expire at once.
local function remember_id(args, event)
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
  local position, incarnation = tonumber(meta[1] or 0), server_incarnation()
  if meta[2] == incarnation then
    return { 'opened', position }
  end
  redis.call('HSETNX', keys[2], 'id', args[3])
  for at = 7 + tonumber(args[6]), #args, ARGUMENTS_PER_EVENT do
    local event = parse_event(args, at)
    if event.position > position then
      adjust_time(keys, event)
      -- While a cluster moves the slot, the key of the ids may have been moved: the event must then stay missing.
      remember_id(args, event)
      store_event(keys, args, event)
      position = event.position
    end
  end
  if args[4] == '0' then
    return { 'restored', position }
  elseif position < tonumber(args[5]) then
    return { 'behind', position }
  end
  redis.call('HSET', keys[2], 'epoch', args[4], 'reign', incarnation)
  return { 'opened', position }
end

redis.register_function('@NAME@', restore)
-- See append.lua.
redis.register_function { function_name = '@NAME@_despite_oom', callback = restore, flags = { 'allow-oom' } }
