-- A shared transcript: its speaker's process adds to it, other processes look it up. It is one script, so that each call
-- is atomic. A call may be executed twice, or late: finals are numbered, and known ones are skipped.
--
-- KEYS   finals    list: the finals so far
--        state     string: "live" or "over"; if it is missing, there is no such transcript
--        alive     a key that expires, unless the speaker's process renews it
--        readers   a key that expires, unless a process with readers renews it; while it exists, messages are published
-- ARGV   add   the channel; the transcript's name; ms until everything expires; ms until `alive` expires; "live" or
--              "over"; the partial, or ""; the number of the first final that follows, counted from 0; finals
--        look  ms until `readers` expires; the number of finals that are known; how many more to return at most. Returns
--              "live" or "over"; "lost", if there is no such transcript; "quiet", if `alive` has expired; then finals

local finals, state, alive, readers = unpack(KEYS)

if ARGV[1] == 'add' then
  local _, channel, name, keep_ms, alive_ms, now, partial, first = unpack(ARGV, 1, 8)
  local is_read = redis.call('EXISTS', readers) == 1
  local function publish(what, text)
    if is_read then redis.call('PUBLISH', channel, name .. ' ' .. what .. ' ' .. text) end
  end
  local length = redis.call('LLEN', finals)
  for place = 9, #ARGV do
    if first + place - 9 == length then
      length = redis.call('RPUSH', finals, ARGV[place])
      publish(length, ARGV[place])
    end
  end
  if partial ~= '' then publish('partial', partial) end
  redis.call('SET', state, now, 'PX', keep_ms)
  redis.call('SET', alive, 1, 'PX', alive_ms)
  redis.call('PEXPIRE', finals, keep_ms)
  if now == 'over' then publish('over', '') end
  return length
end

if ARGV[1] == 'look' then
  local now = redis.call('GET', state)
  if not now then return {'lost'} end
  redis.call('SET', readers, 1, 'PX', ARGV[2])
  if now == 'live' and redis.call('EXISTS', alive) == 0 then now = 'quiet' end
  local from, most = tonumber(ARGV[3]), tonumber(ARGV[4])
  local found = redis.call('LRANGE', finals, from, from + most - 1)
  if from + #found < redis.call('LLEN', finals) then now = 'live' end
  return {now, unpack(found)}
end

return redis.error_reply('there is no such call: ' .. ARGV[1])
