#!lua name=@NAME@

--[[
Append events to a log and move a tracking position, all or nothing.

append(log, meta, versions, tracking, positions …;
       ids_prefix, window, application, tracked, token, partitions, stream_count, stream …,
       [stream_number, topic, event_id, expected_version, state, origin, content] …) -> reply

Keys, all in the hash slot of the log
  log         stream      entry "<position>-0": stream, version, topic, event_id, recorded_at (ms), state, origin
  meta        hash        id; epoch; position: last position of the log; recorded_at: time of the last event, epoch
                          milliseconds; duplicates: number of dropped events; reign: server incarnation under which the
                          log is open; large: last position of an event with a large state; partitions: the seal of
                          a partition of the market log, absent until the number of partitions is raised
  versions    hash        stream -> its last version
  tracking    hash        application -> "<position> <token of the call that set it>"
  positions … list        one per stream of the call: the positions of its events, in order of version
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
  stream_count      number of streams of the call
  stream …          names of the streams, in the order of the keys "positions …"
  For each event:
    stream_number     number of its stream, from 1
    topic             topic of the event
    event_id          id of the event, not empty
    expected_version  version that the event must get, or "" for the next version
    state             serialized event
    origin            way by which the event arrived
    content           digest of the content that has the id, without blanks, or "" if it is not compared

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

-- Number of arguments per event.
local ARGUMENTS_PER_EVENT = 7

-- Bytes of a state from which an event is large: readers bound batches of such events by their bytes.
local LARGE_STATE = 8192

local function call_in_chunks(command, key, values)
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

local function parse_event(args, first, number)
  local at = first + (number - 1) * ARGUMENTS_PER_EVENT
  return {
    stream = tonumber(args[at]),
    topic = args[at + 1],
    id = args[at + 2],
    expected = tonumber(args[at + 3]),
    state = args[at + 4],
    origin = args[at + 5],
    content = args[at + 6],
  }
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
  local partitions, stream_count = args[6], tonumber(args[7])
  local stream_names = {}
  for number = 1, stream_count do
    stream_names[number] = args[7 + number]
  end
  local first = 8 + stream_count
  local event_count = (#args - first + 1) / ARGUMENTS_PER_EVENT

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

  local events, ids = {}, {}
  for number = 1, event_count do
    events[number] = parse_event(args, first, number)
    ids[number] = events[number].id
  end
  local known = find_duplicates(ids, { prefix .. string.format('%d', window - 1), window_key })
  local last = {}
  for number, version in ipairs(call_in_chunks('HMGET', versions, stream_names)) do
    last[number] = tonumber(version)
  end

  local reply, fresh = { 'appended' }, {}
  for number, event in ipairs(events) do
    local original = known[event.id]
    local duplicate = 0
    if original then
      local differs = event.content ~= '' and original[3] ~= '' and event.content ~= original[3]
      duplicate = differs and 2 or 1
    end
    if not original then
      local previous = last[event.stream]
      if not previous and seal and seal ~= partitions then
        return { 'elsewhere', seal }
      end
      local version = previous and previous + 1 or (event.expected == 0 and 0 or 1)
      if event.expected and event.expected ~= version then
        return { 'conflict', number - 1, previous or -1 }
      end
      position = position + 1
      event.position, event.version = position, version
      last[event.stream] = version
      original = { position, version, event.content }
      known[event.id] = original
      fresh[#fresh + 1] = event
    end
    reply[#reply + 1] = original[1]
    reply[#reply + 1] = original[2]
    reply[#reply + 1] = duplicate
  end

  -- All checks precede the first write: a refused call writes nothing.
  if application ~= '' then
    redis.call('HSET', tracking, application, string.format('%d %s', tracked, token))
  end
  if event_count > #fresh then
    -- This write happens even if all events are duplicates: WAIT and WAITAOF wait for the last write of the caller.
    redis.call('HINCRBY', meta, 'duplicates', event_count - #fresh)
  end
  if #fresh == 0 then
    return reply
  end
  local positions, new_ids, new_versions = {}, {}, {}
  for _, event in ipairs(fresh) do
    local at = string.format('%d', event.position)
    redis.call('XADD', log, at .. '-0', 'stream', stream_names[event.stream], 'version', event.version,
      'topic', event.topic, 'event_id', event.id, 'recorded_at', recorded_at, 'state', event.state, 'origin', event.origin)
    if #event.state >= LARGE_STATE then
      redis.call('HSET', meta, 'large', at)
    end
    positions[event.stream] = positions[event.stream] or {}
    table.insert(positions[event.stream], at)
    table.insert(new_ids, event.id)
    local suffix = event.content == '' and '' or ' ' .. event.content
    table.insert(new_ids, string.format('%s %d%s', at, event.version, suffix))
  end
  for stream, list in pairs(positions) do
    call_in_chunks('RPUSH', keys[4 + stream], list)
    table.insert(new_versions, stream_names[stream])
    table.insert(new_versions, last[stream])
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
