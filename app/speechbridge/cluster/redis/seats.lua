#!lua flags=allow-oom
-- How many read a transcript, over all processes. One script, so that each call is one step for everybody.
-- A process says how many it has as a number, not as a difference, so a call may be carried out twice.
--
-- KEYS   seats  hash: a process, the readers that it has; and with ":until" behind it, until when they count
-- ARGV   the process; ms for which its readers count; the readers that it has; how many there may be at all processes,
--        for one more, or "" to say the number only
--
-- Returns whether one more has entered.

local seats = KEYS[1]
local process, alive_ms, own, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local others, found = 0, redis.call('HGETALL', seats)
local readers = {}
for at = 1, #found, 2 do readers[found[at]] = found[at + 1] end
for name, ends in pairs(readers) do
  local who = string.match(name, '^(.*):until$')
  if who and tonumber(ends) <= now then
    redis.call('HDEL', seats, who, name)
  elseif who and who ~= process then
    others = others + readers[who]
  end
end

local enters = most ~= nil and others + own < most
if enters then own = own + 1 end
if own == 0 then
  redis.call('HDEL', seats, process, process .. ':until')
else
  redis.call('HSET', seats, process, own, process .. ':until', string.format('%.0f', now + alive_ms))
end
redis.call('PEXPIRE', seats, alive_ms)
return enters and 1 or 0
