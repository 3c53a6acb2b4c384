#!lua name=@NAME@

--[[
Note on a dead letter that its retry was refused.

fail_dead_letter_retry(letter; code, reason, recorded_items) -> 1 if the letter exists, else 0

A letter that was discarded or dropped meanwhile stays away.

Keys
  letter          hash  the letter; retries: number of refused retries

Arguments
  code            text  code of the first refusal
  reason          text  the reasons
  recorded_items  text  the items of a batch that are recorded, by this retry or before: a number in base 16, whose bit n
                        stands for the item n
]]

local function fail_dead_letter_retry(keys, args)
  if redis.call('EXISTS', keys[1]) == 0 then
    return 0
  end
  redis.call('HSET', keys[1], 'code', args[1], 'reason', args[2], 'recorded_items', args[3])
  redis.call('HINCRBY', keys[1], 'retries', 1)
  return 1
end

redis.register_function('@NAME@', fail_dead_letter_retry)
