#!lua name=@NAME@

--[[
Record that a log has an archive. A full server runs this too, because only an archived log can be trimmed.

mark_archived(meta;) -> 1 if the log was not marked before, else 0

Keys
  meta      hash    the state of the log: field archived, the head of the archive that Redis keeps; "0" without one
]]

local function mark_archived(keys, _)
  return redis.call('HSETNX', keys[1], 'archived', '0')
end

redis.register_function { function_name = '@NAME@', callback = mark_archived, flags = { 'allow-oom' } }
