-- A shared transcript: what its speaker's process adds, and what others look up. One script, so that each call is one
-- step for everybody. Each call may be carried out twice, or late: finals are numbered, and what is known is skipped.
--
-- KEYS   finals    list: the finals so far
--        state     string: "live" or "over"; without it there is no such transcript
--        alive     a mark that expires, unless the speaker's process renews it
--        readers   a mark that expires, unless a process with readers renews it: then messages are published, too
-- ARGV   add   the channel; the transcript's name; ms after which all is gone; ms for `alive`; "live" or "over"; the
--              partial, or ""; the number of the first final that follows, from 0 on; finals
--        look  ms for `readers`; the number of finals that are known; how many more at most. Returns "live" or "over"; or
--              "lost", if there is no such transcript, or "quiet", if its speaker's process is not heard of; and finals

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
