#!lua flags=allow-oom
-- What all replicas of a service use together: one script, so that each call is one step for everybody.
-- Times are in milliseconds of Redis' clock. A call that is carried out twice counts its handshakes twice, nothing else.
--
-- KEYS   replicas  sorted set: a replica, until when it counts
--        calls     hash: a replica, the number of its last call
--        has       how the name of a hash begins, one a replica: a name, the places that it has of it
--        rates     how the name of a string begins, one a name: when its handshakes are all paid for (GCRA)
-- ARGV   the time, or "" for Redis' own; the replica; the number of its call; ms for which it counts; handshakes a
--        minute, 0 for no limit; how many names follow; each with the places that the replica has of it; then for
--        each entry: how many names whose handshakes count; these; how many names of which it takes a place; these,
--        each with the most
--
-- Returns one list an entry: {} if it may enter; the place of a name among all its names and ms to wait; or that, 0, and
-- how many places there are.

local replicas, calls, has, rates = unpack(KEYS)
local replica, call, alive_ms, rate = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local own = has .. ':' .. replica
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local at = 5
local function take()
  at = at + 1
  return ARGV[at]
end

if call < tonumber(redis.call('HGET', calls, replica) or 0) then return redis.error_reply('LATE a later call was first') end
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', replicas, '-inf', now)) do
  redis.call('ZREM', replicas, gone)
  redis.call('HDEL', calls, gone)
  redis.call('DEL', has .. ':' .. gone)
end
redis.call('ZADD', replicas, now + alive_ms, replica)
redis.call('HSET', calls, replica, call)
for _ = 1, tonumber(take()) do
  local name, count = take(), take()
  if count == '0' then redis.call('HDEL', own, name) else redis.call('HSET', own, name, count) end
end

local function total(name)
  local sum = 0
  for _, each in ipairs(redis.call('ZRANGE', replicas, 0, -1)) do
    sum = sum + tonumber(redis.call('HGET', has .. ':' .. each, name) or 0)
  end
  return sum
end

local function too_often(name)
  local key, every = rates .. ':' .. name, 60000 / rate
  local paid = math.max(now, tonumber(redis.call('GET', key) or now)) + every
  if paid - now > 60000 + 0.001 then return math.ceil(paid - now - 60000) end
  redis.call('SET', key, string.format('%.3f', paid), 'PX', math.ceil(paid - now))
end

local function enter(handshakes, places)
  for index, name in ipairs(handshakes) do
    local wait = rate > 0 and too_often(name)
    if wait then return {index, wait} end
  end
  for index, place in ipairs(places) do
    local there = total(place[1])
    if place[2] > 0 and there >= place[2] then return {#handshakes + index, 0, there} end
  end
  for _, place in ipairs(places) do redis.call('HINCRBY', own, place[1], 1) end
  return {}
end

local answers = {}
while at < #ARGV do
  local handshakes, places = {}, {}
  for index = 1, tonumber(take()) do handshakes[index] = take() end
  for index = 1, tonumber(take()) do places[index] = {take(), tonumber(take())} end
  answers[#answers + 1] = enter(handshakes, places)
end
for _, key in ipairs({replicas, calls, own}) do redis.call('PEXPIRE', key, 2 * alive_ms) end
return answers
