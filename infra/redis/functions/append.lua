#!lua name=@NAME@

--[[
append: add events to a log and move a tracking position, all or nothing.

Keys
  1  log       stream    entry "<position>-0": stream, version, topic, event_id, recorded_at (ms), state, origin
  2  meta      hash      id, epoch, position (last), recorded_at (last, ms), duplicates (dropped so far), reign
  3  versions  hash      stream -> last version
  4  tracking  hash      application -> "<position> <token of the call that set it>"
  5… one for each different stream of the call: list of its positions, in order of version
Keys that the server's clock chooses, in the same hash slot
  <prefix><n>  hash      event id -> "<position> <version>", for the n-th dedupe window since 1970

Arguments
  1  prefix of the dedupe keys
  2  dedupe window, seconds
  3  tracked application, or ""
  4  tracked position
  5  token of this call: a repeat of the call carries the same
  6  number of streams, then their names in the order of the keys
  … for each event: number of its stream (1…), topic, event id, expected version or "", state, origin

Reply, one of
  "unopened": the server has been started or has become the primary since the log was last seen to be whole (restore.lua)
  "appended", then for each event: position, version, 1 for a duplicate or 0
  "conflict", number of the event (0…), last version of its stream or -1
  "tracked", last tracked position
]]

-- unpack() puts its values on Lua's stack, which holds 8,000.
local CHUNK = 1000

local FIELDS = 6

local function call_in_chunks(command, key, values)
  local replies = {}
  for first = 1, #values, CHUNK do
    local reply = redis.call(command, key, unpack(values, first, math.min(first + CHUNK - 1, #values)))
    if type(reply) == 'table' then
      for _, value in ipairs(reply) do
        replies[#replies + 1] = value
      end
    end
  end
  return replies
end

-- What this server calls its data since it was started or became the primary; a log is open under one such name alone.
local function reign()
  return redis.call('INFO', 'replication'):match('master_replid:(%x+)')
end

-- Never earlier than the last event, whatever the server's clock does.
local function milliseconds(last)
  local time = redis.call('TIME')
  return math.max(time[1] * 1000 + math.floor(time[2] / 1000), last)
end

local function event_of(args, first, number)
  local at = first + (number - 1) * FIELDS
  return {
    stream = tonumber(args[at]),
    topic = args[at + 1],
    id = args[at + 2],
    expected = tonumber(args[at + 3]),
    state = args[at + 4],
    origin = args[at + 5],
  }
end

-- Event id -> {position, version}, for those of the ids that the two windows know.
local function remembered(ids, windows)
  local known = {}
  for _, window in ipairs(windows) do
    for index, value in ipairs(call_in_chunks('HMGET', window, ids)) do
      if value then
        local position, version = value:match('^(%d+) (%d+)$')
        known[ids[index]] = { tonumber(position), tonumber(version) }
      end
    end
  end
  return known
end

local function append(keys, args)
  local log, meta, versions, tracking = keys[1], keys[2], keys[3], keys[4]
  local prefix, seconds = args[1], tonumber(args[2])
  local application, tracked, token = args[3], tonumber(args[4]), args[5]
  local stream_count = tonumber(args[6])
  local names = {}
  for number = 1, stream_count do
    names[number] = args[6 + number]
  end
  local first = 7 + stream_count
  local event_count = (#args - first + 1) / FIELDS

  local state = redis.call('HMGET', meta, 'position', 'recorded_at', 'reign')
  if state[3] ~= reign() then
    return { 'unopened' }
  end
  if application ~= '' then
    local position, by = (redis.call('HGET', tracking, application) or '-1 '):match('^(%S+) (.*)$')
    if tonumber(position) >= tracked and by ~= token then
      return { 'tracked', tonumber(position) }
    end
  end

  local position = tonumber(state[1] or 0)
  local recorded_at = milliseconds(tonumber(state[2] or 0))
  local window = math.floor(recorded_at / 1000 / seconds)
  local window_key = prefix .. string.format('%d', window)

  local events, ids = {}, {}
  for number = 1, event_count do
    events[number] = event_of(args, first, number)
    ids[number] = events[number].id
  end
  local known = remembered(ids, { prefix .. string.format('%d', window - 1), window_key })
  local last = {}
  for number, version in ipairs(call_in_chunks('HMGET', versions, names)) do
    last[number] = tonumber(version)
  end

  local reply, fresh = { 'appended' }, {}
  for number, event in ipairs(events) do
    local original = known[event.id]
    local duplicate = original and 1 or 0
    if not original then
      local previous = last[event.stream]
      local version = previous and previous + 1 or (event.expected == 0 and 0 or 1)
      if event.expected and event.expected ~= version then
        return { 'conflict', number - 1, previous or -1 }
      end
      position = position + 1
      event.position, event.version = position, version
      last[event.stream] = version
      original = { position, version }
      known[event.id] = original
      fresh[#fresh + 1] = event
    end
    reply[#reply + 1] = original[1]
    reply[#reply + 1] = original[2]
    reply[#reply + 1] = duplicate
  end

  -- Nothing has been written up to here; from here nothing is refused.
  if application ~= '' then
    redis.call('HSET', tracking, application, string.format('%d %s', tracked, token))
  end
  if event_count > #fresh then
    -- A write even where all are duplicates: what waits for the disk or a replica waits for the caller's last write.
    redis.call('HINCRBY', meta, 'duplicates', event_count - #fresh)
  end
  if #fresh == 0 then
    return reply
  end
  local positions, new_ids, new_versions = {}, {}, {}
  for _, event in ipairs(fresh) do
    local at = string.format('%d', event.position)
    redis.call('XADD', log, at .. '-0', 'stream', names[event.stream], 'version', event.version, 'topic', event.topic,
      'event_id', event.id, 'recorded_at', recorded_at, 'state', event.state, 'origin', event.origin)
    positions[event.stream] = positions[event.stream] or {}
    table.insert(positions[event.stream], at)
    table.insert(new_ids, event.id)
    table.insert(new_ids, string.format('%s %d', at, event.version))
  end
  for stream, list in pairs(positions) do
    call_in_chunks('RPUSH', keys[4 + stream], list)
    table.insert(new_versions, names[stream])
    table.insert(new_versions, last[stream])
  end
  call_in_chunks('HSET', versions, new_versions)
  call_in_chunks('HSET', window_key, new_ids)
  redis.call('EXPIRE', window_key, 2 * seconds, 'NX')
  redis.call('HSET', meta, 'position', position, 'recorded_at', recorded_at)
  return reply
end

redis.register_function('@NAME@', append)
