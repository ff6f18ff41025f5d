#!lua flags=allow-oom
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
--        epoch    the time from which leases are granted. If it is missing, Redis has lost everything else, too
-- ARGV   the call; the time, or "" for Redis' own; number of leases; ms that a lease lasts; ms that a ticket lasts;
--        length of `lasted`; ms for which no leases are granted after a loss; 1 if the caller has had an answer before;
--        then the call's own arguments
--
-- If Redis has lost its data (it was restarted without it, or was stopped for longer than EPOCH_MS), there is no epoch,
-- though the caller has had answers before. Then no leases are granted for a while, in which holders renew theirs and
-- waiting clients get their old places back. Every process calls every two seconds at least, so the epoch does not
-- expire while they run.

local leases, begun, queue, tickets, owners, arrivals, lasted, epoch = unpack(KEYS)
local call, most, lease_ms, ticket_ms = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local remembered = tonumber(ARGV[6])
local FORGET_MS = 86400000
local EPOCH_MS = 10000 -- shorter than tickets and leases last
local FIRST = 9 -- of what the call is about
local HELD, WAITING, FULL, TAKEN_OVER, UNKNOWN = 1, 2, 3, 4, 5

local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local opens = redis.call('GET', epoch)
if not opens then opens = string.format('%.0f', now + (ARGV[8] == '1' and ARGV[7] or 0)) end
redis.call('SET', epoch, opens, 'PX', EPOCH_MS)
local is_settling = now < tonumber(opens)

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

-- Numbers are times, at least: so those who come after all was forgotten come after those who waited before.
local function next_number()
  local number = string.format('%.0f', math.max(now, tonumber(redis.call('GET', arrivals) or 0) + 1))
  redis.call('SET', arrivals, number, 'PX', FORGET_MS)
  return number
end

local function keep(holder, ticket, joins, turn)
  if ticket == '' or redis.call('ZSCORE', leases, holder) then return end
  local known = redis.call('ZSCORE', queue, ticket)
  local of, number = string.match(turn, '^(%d+):(%d+)$')
  local is_forgotten = of and of ~= opens
  if joins == '1' or (is_forgotten and not known) then
    if not known then redis.call('ZADD', queue, is_forgotten and is_settling and number or next_number(), ticket) end
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
    if is_settling then return UNKNOWN end
  elseif redis.call('HGET', owners, ticket) ~= holder then
    return TAKEN_OVER
  elseif is_settling or redis.call('ZRANK', queue, ticket) >= free() then
    return WAITING
  end
  lease(holder)
  drop_ticket(ticket)
  return HELD
end

-- The place of one who waits, 0 if it is not known yet; and its turn, with which it has that place again.
local function place(ticket)
  local turn = opens .. ':' .. string.format('%.0f', redis.call('ZSCORE', queue, ticket))
  return is_settling and 0 or redis.call('ZRANK', queue, ticket) + 1, turn
end

purge()

if call == 'ask' then
  local answers, places, turns, ages = {}, {}, {}, {}
  for first = FIRST, #ARGV, 4 do
    keep(ARGV[first], ARGV[first + 1], ARGV[first + 2], ARGV[first + 3])
    answers[#answers + 1] = answer(ARGV[first], ARGV[first + 1])
  end
  for index, standing in ipairs(answers) do
    places[index], turns[index] = 0, ''
    if standing == WAITING then places[index], turns[index] = place(ARGV[FIRST - 3 + 4 * index]) end
  end
  for _, since in ipairs(redis.call('HVALS', begun)) do ages[#ages + 1] = now - since end
  return {answers, places, turns, ages, redis.call('LRANGE', lasted, 0, -1)}
end

if call == 'renew' then
  local lost = {}
  for place = FIRST, #ARGV do
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
  local since = redis.call('HGET', begun, ARGV[FIRST])
  if redis.call('ZREM', leases, ARGV[FIRST]) == 0 then return 0 end
  redis.call('HDEL', begun, ARGV[FIRST])
  redis.call('LPUSH', lasted, now - since)
  redis.call('LTRIM', lasted, 0, remembered - 1)
  redis.call('PEXPIRE', lasted, FORGET_MS)
  redis.call('PUBLISH', leases, 'released')
  return 1
end

if call == 'leave' then
  if redis.call('HGET', owners, ARGV[FIRST + 1]) ~= ARGV[FIRST] then return 0 end
  drop_ticket(ARGV[FIRST + 1])
  redis.call('PUBLISH', leases, 'left')
  return 1
end

return redis.error_reply('there is no such call: ' .. call)
