-- What all replicas of a service receive, by second and name. One call reports a second of one replica, and reads the
-- three seconds before. If a call is executed twice, it writes the same again.
--
-- KEYS   traffic   prefix of one hash for each second and name: replica, "bytes messages"
-- ARGV   the replica; the second; ms until what it reports expires; the bytes and the messages that all replicas may
--        receive in a second, 0 for no limit; then for each name: the name, bytes, messages
--
-- Returns for each name the bytes and the messages that the other replicas received in the second before; 0, 0 unless
-- all replicas together received more than the limit in each of the three seconds before.

local traffic = KEYS[1]
local replica, second, keep_ms = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local most_bytes, most_messages = tonumber(ARGV[4]), tonumber(ARGV[5])

local function key(name, ago)
  return traffic .. ':' .. string.format('%d', second - ago) .. ':' .. name
end

local function exceeds(bytes, messages)
  return (most_bytes > 0 and bytes > most_bytes) or (most_messages > 0 and messages > most_messages)
end

local function others(name, ago)
  local found, own_bytes, own_messages, bytes, messages = redis.call('HGETALL', key(name, ago)), 0, 0, 0, 0
  for index = 1, #found, 2 do
    local its_bytes, its_messages = string.match(found[index + 1], '(%d+) (%d+)')
    if found[index] == replica then
      own_bytes, own_messages = tonumber(its_bytes), tonumber(its_messages)
    else
      bytes, messages = bytes + tonumber(its_bytes), messages + tonumber(its_messages)
    end
  end
  return bytes, messages, exceeds(own_bytes + bytes, own_messages + messages)
end

local answers = {}
for index = 6, #ARGV, 3 do
  local name, bytes, messages = ARGV[index], ARGV[index + 1], ARGV[index + 2]
  if bytes ~= '0' or messages ~= '0' then
    redis.call('HSET', key(name, 0), replica, bytes .. ' ' .. messages)
    redis.call('PEXPIRE', key(name, 0), keep_ms)
  end
  local others_bytes, others_messages, is_proven = others(name, 1)
  for ago = 2, 3 do
    is_proven = is_proven and select(3, others(name, ago))
  end
  if not is_proven then
    others_bytes, others_messages = 0, 0
  end
  answers[#answers + 1] = others_bytes
  answers[#answers + 1] = others_messages
end
return answers
