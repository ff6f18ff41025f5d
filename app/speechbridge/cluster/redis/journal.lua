-- The journal of resumable streams: what must be known of each, so that another process can go on with it, and which
-- process has it. One script, so that each call is one step for everybody.
--
-- A call that timed out may be carried out twice, or late. So each write of a process has a number, and one that is not
-- newer than the last is skipped; a write of a process that does not have the stream any more is refused.
--
-- A process beats as long as it has streams. It is taken for dead BEATS_MS after its last beat if it does not hear what
-- is published for it, which is so at once when it was killed; and if it hears, as one that stands still may seem to,
-- once its beat has expired.
--
-- KEYS   of each stream: state, a hash; audio, a list of its bytes; finals, a list
--        of the call `write`, before them: the beat of the process that writes
-- ARGV   write    process; ms for the beat; for each stream thirteen values, as `write` reads them, and its finals.
--                 Returns whether there was a beat already, and how it went with each stream
--        take     process; whose the stream must be; what the keys of beats begin with; what the channels of processes
--                 begin with; the stream
--        disown   process
--        drop     process

local BEATS_MS = 1500

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Writes one stream from ARGV[at] on; returns how it went, and where the next one begins.
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
    local hears = redis.call('PUBLISH', channels .. owner, stream)
    local beat = redis.call('GET', beats .. owner)
    if beat and (hears > 0 or now() - beat < BEATS_MS) then return {'wait'} end
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
