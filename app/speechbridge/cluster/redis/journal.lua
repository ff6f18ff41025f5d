-- The journal of resumable streams: the state of each that another process needs to continue it, and which process owns
-- it. It is one script, so that each call is atomic.
--
-- A call that timed out may be executed twice, or late. So each write of a process has a number, and a write that is not
-- newer than the last one is skipped. A write of a process that no longer owns the stream is refused.
--
-- A process sends heartbeats as long as it has streams. If it is not subscribed to its channel, as after a kill, it
-- counts as dead BEATS_MS after its last heartbeat. If it is subscribed, which a stopped process still is, it counts as
-- dead once its heartbeat has expired.
--
-- KEYS   for each stream: state, a hash; audio, a list of byte strings; finals, a list
--        for the call `write`, before them: the heartbeat of the process that writes
-- ARGV   write    process; ms until the heartbeat expires; for each stream the 13 values that `write` reads; its finals.
--                 Returns whether there was a heartbeat before, and the result of each stream
--        take     process; the owner that the stream must have; the prefix of the heartbeats' keys; the prefix of the
--                 processes' channels; the stream
--        disown   process
--        drop     process

local BEATS_MS = 1500

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Writes one stream, whose values begin at ARGV[at]. Returns the result, and the index of the next stream's values.
local function write(process, state, audio, finals, at)
  local number, keep_ms, whose, about, from, sound, begin, settled, confirmed, first, has_ended, verdict, count =
    unpack(ARGV, at, at + 12)
  local after = at + 13 + count
  local owner, last = unpack(redis.call('HMGET', state, 'owner', 'number'))
  if owner and owner ~= process then return 'lost', after end
  if owner and tonumber(number) <= tonumber(last) then return 'stored', after end
  if about ~= '' then
    redis.call('DEL', state, audio, finals)
    redis.call('HSET', state, 'owner', process, 'whose', whose, 'about', about,
      'begin', from, 'received', from, 'first', first)
  elseif not owner then
    return 'gone', after
  end

  local received, base = unpack(redis.call('HMGET', state, 'received', 'begin'))
  received, base = tonumber(received), tonumber(base)
  if tonumber(from) > received then return 'gone', after end
  sound = string.sub(sound, received - from + 1)
  if sound ~= '' then redis.call('RPUSH', audio, sound) end
  while true do
    local chunk = redis.call('LINDEX', audio, 0)
    if not chunk or base + #chunk > tonumber(begin) then break end
    redis.call('LPOP', audio)
    base = base + #chunk
  end

  local has = redis.call('HGET', state, 'first') + redis.call('LLEN', finals)
  if tonumber(first) > has then return 'gone', after end
  for place = 0, count - 1 do
    if first + place == has then
      redis.call('RPUSH', finals, ARGV[at + 13 + place])
      has = has + 1
    end
  end
  local start = tonumber(redis.call('HGET', state, 'first'))
  while start < tonumber(confirmed) and redis.call('LPOP', finals) do start = start + 1 end
  redis.call('HSET', state, 'number', number, 'received', received + #sound, 'begin', base, 'from', begin,
    'settled', settled, 'first', start, 'ended', has_ended, 'verdict', verdict)
  for _, key in ipairs({state, audio, finals}) do redis.call('PEXPIRE', key, keep_ms) end
  return 'stored', after
end

if ARGV[1] == 'write' then
  local process, at = ARGV[2], 4
  local results = {redis.call('SET', KEYS[1], now(), 'PX', ARGV[3], 'GET') and 'again' or 'first'}
  for key = 2, #KEYS, 3 do
    results[#results + 1], at = write(process, KEYS[key], KEYS[key + 1], KEYS[key + 2], at)
  end
  return results
end

local state, _, finals = unpack(KEYS)
local owner = redis.call('HGET', state, 'owner')

if ARGV[1] == 'take' then
  local _, process, whose, beats, channels, stream = unpack(ARGV)
  if not owner or redis.call('HGET', state, 'whose') ~= whose then return {'none'} end
  if owner ~= '' and owner ~= process then
    local subscribers = redis.call('PUBLISH', channels .. owner, stream)
    local beat = redis.call('GET', beats .. owner)
    if beat and (subscribers > 0 or now() - beat < BEATS_MS) then return {'wait'} end
  end
  redis.call('HSET', state, 'owner', process, 'number', 0)
  return {owner == '' and 'let go' or 'taken', redis.call('HMGET', state, 'about', 'begin', 'from', 'settled', 'received', 'first', 'ended', 'verdict'),
    redis.call('LRANGE', finals, 0, -1)}
end

if ARGV[1] == 'disown' then
  if owner == ARGV[2] then redis.call('HSET', state, 'owner', '') end
  return owner == ARGV[2] and 1 or 0
end

if ARGV[1] == 'drop' then
  return owner == ARGV[2] and redis.call('DEL', unpack(KEYS)) or 0
end

return redis.error_reply('there is no such call: ' .. ARGV[1])
