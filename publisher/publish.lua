-- Publishes one event of a job, and remembers it as the job's last event.
--
-- KEYS[1]  the project's hash: a field for each job (its last event as JSON), and two more:
--            seq   the project's newest seq
--            from  the hash is complete from this seq on; jobs whose last event is older may have been trimmed.
--                  Missing after an event that could not be remembered: then any job may be missing
-- ARGV[1]  the project's Redis channel
-- ARGV[2]  the event: a JSON object with at least one field and without a seq
-- ARGV[3]  the job's field
-- ARGV[4]  the event's attempt, or ''
-- ARGV[5]  its progress, or '' for job_complete and job_failed
-- ARGV[6]  the number of jobs to remember
-- ARGV[7]  how many more jobs there may be before the oldest are trimmed: trimming reads the whole hash
-- ARGV[8]  time to live, in seconds
-- ARGV[9]  PUBLISH, or SPUBLISH in a Cluster, which reaches only the project's shard
--
-- Returns the event's seq; nil if the attempt rule refused the event (then nothing was changed or sent); a table of the
-- seq and an error if the event was sent but could not be remembered.

-- Costs in microseconds on a quiet machine (bench/README.md, P8): a script that does nothing 1.4; the read, TIME, HSET
-- and PUBLISH together 4.5; the rest 1.5 without an attempt and 2.5 with one. So the usual path avoids every redis.call
-- that it can, string.format (0.7) and cjson.decode (1.5). There is no `#!lua` line: no gain could be measured, and
-- Redis 6 does not know it.

local call = redis.call
local key, field, attempt, progress = KEYS[1], ARGV[3], ARGV[4], ARGV[5]

-- Only the attempt rule needs the job's last event.
local known = attempt == '' and call('HMGET', key, 'seq') or call('HMGET', key, 'seq', field)
local known_seq, last = tonumber(known[1]), known[2]
-- Ignore a seq that another program wrote: at the largest integer, no event could follow it.
if known_seq and not (known_seq < 9007199254740991) then known_seq = nil end

-- The attempt rule. If the job's last event and this one both have an attempt, the script refuses: a lower attempt; any
-- event after the end of the same attempt; a progress below the last one of the same attempt.
if last then
  local find, number = string.find, tonumber(attempt)
  local allowed = false
  -- A quick check of the usual case: the last event is a progress as this script wrote it. It refuses nothing, and it
  -- allows only what the rule allows. In JSON, the bytes ,"attempt": are always a key: inside a text, a backslash would
  -- stand before the quote, not a comma. Without a brace before them, they are a key of the event itself.
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

-- seq is the clock in microseconds, so that it rises even after the hash was lost; and it is always above the last one.
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
-- pcall: a Redis whose memory is full remembers nothing new, but viewers still get the event.
local added
if known_seq then
  added = redis.pcall('HSET', key, 'seq', seq_text, field, event)
else
  added = redis.pcall('HSET', key, 'seq', seq_text, 'from', seq_text, field, event)
end

if added ~= 0 and type(added) == 'table' then
  -- A Redis that became a replica is the wrong server. So may be one that lost its replicas (min-replicas-to-write).
  -- The error makes the publisher look for the right one.
  if string.find(added.err, 'READONLY', 1, true) then
    return redis.error_reply("READONLY You can't write against a read only replica.")
  end
  if string.find(added.err, 'NOREPLICAS', 1, true) then
    return redis.error_reply('NOREPLICAS Not enough good replicas to write.')
  end
  -- Delete the job's older event: a late viewer would take it for the newest. Delete `from`: then a viewer that comes
  -- back learns that events may be missing. Redis allows HDEL while its memory is full.
  local taken_away = redis.pcall('HDEL', key, 'seq', 'from', field)
  -- If Redis refuses all writes (MISCONF: its disk is full, for example), the event is not sent: later viewers would be
  -- shown the event before it and could not know. A tracked job tries its end again.
  if type(taken_away) == 'table' then return redis.error_reply(added.err) end
  call(ARGV[9], ARGV[1], event)
  return { seq, added.err }
end

-- Renew the time to live with the first event of each minute, known by the last seq; and with each event while the
-- clock is behind the last seq.
if not known_seq or seq == known_seq + 1 or known_seq < seq - seq % 60000000 then
  call('EXPIRE', key, ARGV[8])
end

-- The job is new if HSET added one field. In a hash without a valid seq it may be new: HSET added others, too.
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
