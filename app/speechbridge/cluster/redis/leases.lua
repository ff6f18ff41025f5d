-- The leases of an account, and the queue for them. It is one script, so that each call is atomic.
-- The states are those of the table in speechbridge/cluster/__init__.py. Times are in milliseconds of Redis' clock.
--
-- KEYS   leases   sorted set: holder, expiry
--        begun    hash: holder, the time since which it has its lease
--        queue    sorted set: ticket, its number in the order of arrival
--        tickets  sorted set: ticket, expiry
--        owners   hash: ticket, the holder that asks with it
--        arrivals the number of the last ticket
--        lasted   list: durations of the latest streams, the newest first
-- ARGV   the call; the time, or "" for Redis' own; number of leases; ms that a lease lasts; ms that a ticket lasts;
--        length of `lasted`; then the call's own arguments

local leases, begun, queue, tickets, owners, arrivals, lasted = unpack(KEYS)
local call, most, lease_ms, ticket_ms = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local remembered = tonumber(ARGV[6])
local FORGET_MS = 86400000
local HELD, WAITING, FULL, TAKEN_OVER = 1, 2, 3, 4

local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function drop_ticket(ticket)
  redis.call('ZREM', queue, ticket)
  redis.call('ZREM', tickets, ticket)
  redis.call('HDEL', owners, ticket)
end

local function purge()
  for _, holder in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now)) do
    redis.call('ZREM', leases, holder)
    redis.call('HDEL', begun, holder)
  end
  for _, ticket in ipairs(redis.call('ZRANGEBYSCORE', tickets, '-inf', now)) do
    drop_ticket(ticket)
  end
end

local function lease(holder)
  redis.call('ZADD', leases, now + lease_ms, holder)
  redis.call('HSETNX', begun, holder, now)
  redis.call('PEXPIRE', leases, 2 * lease_ms)
  redis.call('PEXPIRE', begun, 2 * lease_ms)
end

local function free()
  return most - redis.call('ZCARD', leases)
end

local function keep(holder, ticket, joins)
  if ticket == '' or redis.call('ZSCORE', leases, holder) then return end
  local known = redis.call('ZSCORE', queue, ticket)
  if joins == '1' then
    if not known then
      redis.call('ZADD', queue, redis.call('INCR', arrivals), ticket)
      redis.call('PEXPIRE', arrivals, FORGET_MS)
    end
    redis.call('HSET', owners, ticket, holder)
  elseif not known or redis.call('HGET', owners, ticket) ~= holder then
    return
  end
  redis.call('ZADD', tickets, now + ticket_ms, ticket)
  for _, key in ipairs({queue, tickets, owners}) do redis.call('PEXPIRE', key, 2 * ticket_ms) end
end

-- Whether it is a ticket's turn does not depend on who asks first. If a later ticket gets its lease first, one lease less
-- is free, but one ticket less is in the queue, too.
local function answer(holder, ticket)
  if redis.call('ZSCORE', leases, holder) then return HELD end
  if ticket == '' then
    if redis.call('ZCARD', queue) >= free() then return FULL end
  elseif redis.call('HGET', owners, ticket) ~= holder then
    return TAKEN_OVER
  elseif redis.call('ZRANK', queue, ticket) >= free() then
    return WAITING
  end
  lease(holder)
  drop_ticket(ticket)
  return HELD
end

purge()

if call == 'ask' then
  local answers, places, ages = {}, {}, {}
  for first = 7, #ARGV, 3 do
    keep(ARGV[first], ARGV[first + 1], ARGV[first + 2])
    answers[#answers + 1] = answer(ARGV[first], ARGV[first + 1])
  end
  for index, standing in ipairs(answers) do
    places[index] = standing == WAITING and redis.call('ZRANK', queue, ARGV[5 + 3 * index]) + 1 or 0
  end
  for _, since in ipairs(redis.call('HVALS', begun)) do ages[#ages + 1] = now - since end
  return {answers, places, ages, redis.call('LRANGE', lasted, 0, -1)}
end

if call == 'renew' then
  local lost = {}
  for place = 7, #ARGV do
    -- An unknown lease was lost by Redis: its holder would have disconnected before it expired. It may have it again.
    if redis.call('ZSCORE', leases, ARGV[place]) or free() > 0 then
      lease(ARGV[place])
    else
      lost[#lost + 1] = ARGV[place]
    end
  end
  return lost
end

if call == 'release' then
  local since = redis.call('HGET', begun, ARGV[7])
  if redis.call('ZREM', leases, ARGV[7]) == 0 then return 0 end
  redis.call('HDEL', begun, ARGV[7])
  redis.call('LPUSH', lasted, now - since)
  redis.call('LTRIM', lasted, 0, remembered - 1)
  redis.call('PEXPIRE', lasted, FORGET_MS)
  redis.call('PUBLISH', leases, 'released')
  return 1
end

if call == 'leave' then
  if redis.call('HGET', owners, ARGV[8]) ~= ARGV[7] then return 0 end
  drop_ticket(ARGV[8])
  redis.call('PUBLISH', leases, 'left')
  return 1
end

return redis.error_reply('there is no such call: ' .. call)
