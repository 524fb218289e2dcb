-- Publishes one event of one job, and remembers it as the last event of that job.
--
-- KEYS[1]  the project's hash: a field for each job (its last event as JSON), and two more:
--            seq   the project's newest seq
--            from  the seq from which on the hash is complete: what came before may be forgotten. Missing where an
--                  event could not be remembered: then anything may be forgotten
-- ARGV[1]  the project's channel
-- ARGV[2]  the event: one JSON object with at least one field and without a seq
-- ARGV[3]  the job's field
-- ARGV[4]  the event's attempt, or '' without one
-- ARGV[5]  its progress, or '' if the event is terminal
-- ARGV[6]  how many jobs are remembered
-- ARGV[7]  how many more may pile up before the oldest are trimmed: trimming reads the whole hash
-- ARGV[8]  time to live, in seconds
-- ARGV[9]  PUBLISH; or SPUBLISH in a Cluster, where only the shard of the project hears it
--
-- Returns the event's seq, or nil when the attempt rule refused it (nothing is changed or sent then); or a table of the
-- seq and an error, if the event was sent but cannot be remembered.

-- What costs how much, in microseconds on a quiet machine (bench/README.md, P8): a call of a script that does nothing
-- 1.4; to read, TIME, HSET and PUBLISH together 4.5; all else 1.5 without an attempt and 2.5 with one. So a redis.call
-- that can be left out is, and so are string.format (0.7) and cjson.decode (1.5) where an event goes its usual way.
-- There is no `#!lua` line: no gain from one could be measured, and Redis 6 does not know it.

local call = redis.call
local key, field, attempt, progress = KEYS[1], ARGV[3], ARGV[4], ARGV[5]

-- The job's last event is fetched for the attempt rule only.
local known = attempt == '' and call('HMGET', key, 'seq') or call('HMGET', key, 'seq', field)
local known_seq, last = tonumber(known[1]), known[2]
-- What no clock gave, somebody else wrote; it must not stop the project by being the last seq there can be.
if known_seq and not (known_seq < 9007199254740991) then known_seq = nil end

-- The attempt rule. Where the job's last event and this one both carry an attempt, three are refused: a lower attempt,
-- anything after the end of the same attempt, and a progress below the last one of the same attempt.
if last then
  local find, number = string.find, tonumber(attempt)
  local allowed = false
  -- The usual case, at a glance: the last event is a progress as this script wrote it. Nothing is refused by this; and
  -- what it allows, the rule allows. For in JSON, the bytes ,"attempt": are a key, whatever the texts say: a quote
  -- inside of a text has a backslash before it, not a comma. With no brace before, it is a key of the event itself.
  local _, colon = find(last, ',"attempt":', 1, true)
  if colon and find(last, ',"type":"progress",', 24, true) == 24 and (find(last, '{', 2, true) or colon) >= colon then
    local before, reached = string.match(last, '^(%d+),"progress":([^,}]+)', colon + 1)
    if before == attempt then
      reached = tonumber(reached)
      allowed = progress == '' or (reached and reached <= tonumber(progress))
    else
      allowed = before and tonumber(before) < number
    end
  end
  if not allowed then
    local readable, event = pcall(cjson.decode, last)
    local before = readable and type(event) == 'table' and tonumber(event.attempt)
    if before then
      if number < before then return nil end
      if number == before then
        if event.type ~= 'progress' then return nil end
        if progress ~= '' and tonumber(progress) < (tonumber(event.progress) or 0) then return nil end
      end
    end
  end
end

-- seq: the clock in microseconds, so that it rises even when the hash was lost; and always above the last one.
local time = call('TIME')
local seconds, microseconds = time[1], time[2]
local seq, seq_text = seconds * 1000000 + microseconds, nil
if known_seq and known_seq >= seq then
  seq = known_seq + 1
  seq_text = string.format('%.0f', seq)
else
  if #microseconds < 6 then microseconds = string.rep('0', 6 - #microseconds) .. microseconds end
  seq_text = seconds .. microseconds
end

local event = '{"seq":' .. seq_text .. ',' .. string.sub(ARGV[2], 2)
-- A Redis whose memory is full, say, remembers nothing new (hence pcall); who watches is to see the event all the same.
local added
if known_seq then
  added = redis.pcall('HSET', key, 'seq', seq_text, field, event)
else
  added = redis.pcall('HSET', key, 'seq', seq_text, 'from', seq_text, field, event)
end

if added ~= 0 and type(added) == 'table' then
  -- But a Redis that became a replica is the wrong one, and so may be one that lost its replicas where it may not write
  -- without them (min-replicas-to-write): the publisher is to find the right one.
  if string.find(added.err, 'READONLY', 1, true) then
    return redis.error_reply("READONLY You can't write against a read only replica.")
  end
  if string.find(added.err, 'NOREPLICAS', 1, true) then
    return redis.error_reply('NOREPLICAS Not enough good replicas to write.')
  end
  -- Who comes late is not to be shown an older event for the newest, and who comes back is to be told of a gap: a hash
  -- without `from` is complete from nowhere on. Taking away is allowed while memory is full.
  local taken_away = redis.pcall('HDEL', key, 'seq', 'from', field)
  -- Where nothing may be written at all (MISCONF: a disk that is full, say), it is not sent either: whoever comes later
  -- would be shown the event before it, and nobody could tell. A tracked job's end is tried again.
  if type(taken_away) == 'table' then return redis.error_reply(added.err) end
  call(ARGV[9], ARGV[1], event)
  return { seq, added.err }
end

-- The time to live is renewed with the first event of each minute, which the last seq tells; and with each event while
-- the clock is behind the last seq and tells nothing.
if not known_seq or seq == known_seq + 1 or known_seq < seq - seq % 60000000 then
  call('EXPIRE', key, ARGV[8])
end

-- A job is new where HSET added a field; in a hash without a good seq, where it may have added others, perhaps.
local most = tonumber(ARGV[6])
if (added == 1 or not known_seq) and call('HLEN', key) - 2 > most + ARGV[7] then
  local jobs, all = {}, call('HGETALL', key)
  for i = 1, #all, 2 do
    if all[i] ~= 'seq' and all[i] ~= 'from' then
      jobs[#jobs + 1] = { tonumber(string.match(all[i + 1], '^{"seq":(%d+)')) or 0, all[i] }
    end
  end
  table.sort(jobs, function(a, b) return a[1] < b[1] end)
  local oldest = {}
  for i = 1, #jobs - most do oldest[i] = jobs[i][2] end
  call('HDEL', key, unpack(oldest))
  call('HSET', key, 'from', string.format('%.0f', jobs[#oldest][1]))
end

call(ARGV[9], ARGV[1], event)
return seq
