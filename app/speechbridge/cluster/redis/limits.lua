#!lua flags=allow-oom
-- The total use of all replicas of a service. It is one script, so that each call is atomic.
-- Times are in milliseconds of Redis' clock. If a call is executed twice, its handshakes count twice, and nothing else.
--
-- KEYS   replicas  sorted set: replica, expiry of its counts
--        calls     hash: replica, the number of its last call
--        has       prefix of one hash for each replica: name, the number of places that the replica has under it
--        rates     prefix of one string for each name: GCRA's theoretical arrival time of the next handshake
-- ARGV   the time, or "" for Redis' own; the replica; the number of its call; ms until its counts expire; handshakes per
--        minute, 0 for no limit; how many names follow; each name with the replica's places under it; then for each
--        newcomer: how many names count its handshake; these names; under how many names it takes a place; these names,
--        each with its limit
--
-- Returns one list for each newcomer: {} if it may enter; {index among all its names, ms to wait} if it comes too often;
-- {index, 0, places in use} if a name has no place free.

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
