#!lua name=@NAME@

--[[
Append events to a log and move a tracking position, all or nothing.

append(log, meta, versions, tracking, positions …;
       ids_prefix, window, application, tracked, token, partitions, events, states) -> reply

Keys, all in the hash slot of the log
  log         stream      entry "<position>-0": stream, version, topic, event_id, recorded_at (ms), state, origin
  meta        hash        id; epoch; position: last position of the log; recorded_at: time of the last event, epoch
                          milliseconds; duplicates: number of dropped events; reign: server incarnation under which the
                          log is open; large: last position of an event with a large state; partitions: the seal of
                          a partition of the market log, absent until the number of partitions is raised
  versions    hash        stream -> its last version
  tracking    hash        application -> "<position> <token of the call that set it>"
  positions … list        one per stream of the call, in the order of their first events: the positions of the events
                          of the stream, in order of version
Undeclared keys, computed from the server's clock, in the same hash slot
  <ids_prefix><n> hash    event id -> "<position> <version>" or "<position> <version> <content>", for the n-th dedupe
                          window since 1970

Arguments
  ids_prefix        prefix of the keys of the dedupe windows
  window            length of a dedupe window, seconds
  application       tracked application, or "" to leave the tracking unchanged
  tracked           new tracking position of the application
  token             random text that identifies this call; a repeat of the call has the same token
  partitions        number of partitions of the market log from which the caller has found the log of each stream, such
                    as "4", or "4-8" after a raise; "" if the caller appends to streams of this log only
  events            msgpack: array of events, each an array with the elements below; one packed argument, because seven
                    arguments per event take longer to send and to parse
    stream            name of its stream
    topic             topic of the event
    size              number of bytes of its state
    event_id          id of the event, not empty
    expected_version  version that the event must get, or nil for the next version
    origin            way by which the event arrived
    content           digest of the content that has the id, without blanks, or "" if it is not compared
  states            the serialized events, one after the other; not packed, because MessagePack has no bytes in Lua

Replies
  {"unopened"}
      The server was restarted or replaced, and the log has not been opened since (restore.lua). Nothing is written.
  {"elsewhere", seal}
      An event would be the first one of its stream, and the log is sealed with another number of partitions than the
      caller's: the stream may be in another log. Nothing is written.
  {"tracked", stored position}
      The new tracking position is not higher than the stored position. Nothing is written.
  {"conflict", number of the event from 0, last version of its stream or -1}
      The event cannot get its expected version. Nothing is written.
  {"appended", [position, version, is_duplicate] …}
      All events are in the log. is_duplicate is 1 for an event that was dropped, which has the position and the version
      of the original event; 2 if the original event has other content; and else 0.
]]

-- Highest number of values per command. unpack() puts its values on Lua's stack, which holds 8,000 values.
local MAX_VALUES = 1000

-- Numbers of the elements of an event.
local STREAM, TOPIC, SIZE, ID, EXPECTED, ORIGIN, CONTENT = 1, 2, 3, 4, 5, 6, 7

-- Bytes of a state from which an event is large: readers bound batches of such events by their bytes.
local LARGE_STATE = 8192

local function call_in_chunks(command, key, values)
  if #values <= MAX_VALUES then
    return #values > 0 and redis.call(command, key, unpack(values)) or {}
  end
  local replies = {}
  for first = 1, #values, MAX_VALUES do
    local reply = redis.call(command, key, unpack(values, first, math.min(first + MAX_VALUES - 1, #values)))
    if type(reply) == 'table' then
      for _, value in ipairs(reply) do
        replies[#replies + 1] = value
      end
    end
  end
  return replies
end

-- The server incarnation: the server changes this id when it is started and when it becomes the primary.
local function server_incarnation()
  return redis.call('INFO', 'replication'):match('master_replid:(%x+)')
end

-- The current epoch millisecond, but not before the last event: the server's clock may be set back.
local function current_milliseconds(last)
  local time = redis.call('TIME')
  return math.max(time[1] * 1000 + math.floor(time[2] / 1000), last)
end

-- The names of the streams in the order of their first events, and the number of each stream in this order.
local function number_streams(events)
  local names, numbers = {}, {}
  for _, event in ipairs(events) do
    local stream = event[STREAM]
    if not numbers[stream] then
      names[#names + 1] = stream
      numbers[stream] = #names
    end
  end
  return names, numbers
end

-- Event id -> {position, version, content}, for the ids that the dedupe windows contain.
local function find_duplicates(ids, windows)
  local known = {}
  for _, window in ipairs(windows) do
    for index, value in ipairs(call_in_chunks('HMGET', window, ids)) do
      if value then
        local position, version, content = value:match('^(%d+) (%d+) ?(%S*)$')
        known[ids[index]] = { tonumber(position), tonumber(version), content }
      end
    end
  end
  return known
end

local function append(keys, args)
  local log, meta, versions, tracking = keys[1], keys[2], keys[3], keys[4]
  local prefix, seconds = args[1], tonumber(args[2])
  local application, tracked, token = args[3], tonumber(args[4]), args[5]
  local partitions, events, states = args[6], cmsgpack.unpack(args[7]), args[8]

  local state = redis.call('HMGET', meta, 'position', 'recorded_at', 'reign', 'partitions')
  if state[3] ~= server_incarnation() then
    return { 'unopened' }
  end
  if application ~= '' then
    local stored, stored_token = (redis.call('HGET', tracking, application) or '-1 '):match('^(%S+) (.*)$')
    if tonumber(stored) >= tracked and stored_token ~= token then
      return { 'tracked', tonumber(stored) }
    end
  end

  local seal = state[4]
  local position = tonumber(state[1] or 0)
  local recorded_at = current_milliseconds(tonumber(state[2] or 0))
  local window = math.floor(recorded_at / 1000 / seconds)
  local window_key = prefix .. string.format('%d', window)

  local ids = {}
  for number, event in ipairs(events) do
    ids[number] = event[ID]
  end
  local known = find_duplicates(ids, { prefix .. string.format('%d', window - 1), window_key })
  local streams, stream_numbers = number_streams(events)
  local last = {}
  for number, version in ipairs(call_in_chunks('HMGET', versions, streams)) do
    last[streams[number]] = tonumber(version)
  end

  local reply, fresh, places, fresh_states = { 'appended' }, {}, {}, {}
  local states_end = 0
  for number, event in ipairs(events) do
    local original, content = known[event[ID]], event[CONTENT]
    local state_begin = states_end + 1
    states_end = states_end + event[SIZE]
    local duplicate = 0
    if original then
      local differs = content ~= '' and original[3] ~= '' and content ~= original[3]
      duplicate = differs and 2 or 1
    end
    if not original then
      local stream, expected = event[STREAM], event[EXPECTED]
      local previous = last[stream]
      if not previous and seal and seal ~= partitions then
        return { 'elsewhere', seal }
      end
      local version = previous and previous + 1 or (expected == 0 and 0 or 1)
      if expected and expected ~= version then
        return { 'conflict', number - 1, previous or -1 }
      end
      position = position + 1
      last[stream] = version
      original = { position, version, content }
      known[event[ID]] = original
      fresh[#fresh + 1] = event
      places[#fresh], fresh_states[#fresh] = original, states:sub(state_begin, states_end)
    end
    reply[3 * number - 1], reply[3 * number], reply[3 * number + 1] = original[1], original[2], duplicate
  end

  -- All checks precede the first write: a refused call writes nothing.
  if application ~= '' then
    redis.call('HSET', tracking, application, string.format('%d %s', tracked, token))
  end
  if #events > #fresh then
    -- This write happens even if all events are duplicates: WAIT and WAITAOF wait for the last write of the caller.
    redis.call('HINCRBY', meta, 'duplicates', #events - #fresh)
  end
  if #fresh == 0 then
    return reply
  end
  local positions, new_ids, new_versions = {}, {}, {}
  for number, event in ipairs(fresh) do
    local stream, state, id, content = event[STREAM], fresh_states[number], event[ID], event[CONTENT]
    local at, version = string.format('%d', places[number][1]), places[number][2]
    redis.call('XADD', log, at .. '-0', 'stream', stream, 'version', version, 'topic', event[TOPIC],
      'event_id', id, 'recorded_at', recorded_at, 'state', state, 'origin', event[ORIGIN])
    if #state >= LARGE_STATE then
      redis.call('HSET', meta, 'large', at)
    end
    local list = positions[stream]
    if list then
      list[#list + 1] = at
    else
      positions[stream] = { at }
    end
    new_ids[2 * number - 1] = id
    new_ids[2 * number] = string.format(content == '' and '%s %d' or '%s %d %s', at, version, content)
  end
  for stream, list in pairs(positions) do
    call_in_chunks('RPUSH', keys[4 + stream_numbers[stream]], list)
    new_versions[#new_versions + 1] = stream
    new_versions[#new_versions + 1] = last[stream]
  end
  call_in_chunks('HSET', versions, new_versions)
  call_in_chunks('HSET', window_key, new_ids)
  redis.call('EXPIRE', window_key, 2 * seconds, 'NX')
  redis.call('HSET', meta, 'position', position, 'recorded_at', recorded_at)
  return reply
end

redis.register_function('@NAME@', append)
-- The commands of operators are few. They are recorded also on a full server, before the commands that free its memory.
redis.register_function { function_name = '@NAME@_despite_oom', callback = append, flags = { 'allow-oom' } }
