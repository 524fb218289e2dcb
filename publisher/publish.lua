-- Publishes one event of one job, and remembers it as the last event of that job.
--
-- KEYS[1]  the project's hash: a field for each job (its last event as JSON), and two more:
--            seq   the project's newest seq
--            from  the seq from which on the hash is complete: what came before may be forgotten
-- ARGV[1]  the project's channel
-- ARGV[2]  the event: one JSON object with at least one field and without a seq
-- ARGV[3]  the job's field
-- ARGV[4]  the event's attempt, or '' without one
-- ARGV[5]  its progress, or '' if the event is terminal
-- ARGV[6]  how many jobs are remembered
-- ARGV[7]  how many more may pile up before the oldest are trimmed: trimming reads the whole hash
-- ARGV[8]  time to live, in seconds
--
-- Returns the event's seq, or nil when the attempt rule refused it (nothing is changed or sent then).

local key, field = KEYS[1], ARGV[3]
local known = redis.call('HMGET', key, 'seq', field)
local known_seq, last = tonumber(known[1]), known[2]
-- What no clock gave, somebody else wrote; it must not stop the project by being the last seq there can be.
if known_seq and not (known_seq < 9007199254740991) then known_seq = nil end

-- The attempt rule. Where the job's last event and this one both carry an attempt, three are refused: a lower attempt,
-- anything after the end of the same attempt, and a progress below the last one of the same attempt.
if ARGV[4] ~= '' and last then
  local readable, event = pcall(cjson.decode, last)
  local before = readable and type(event) == 'table' and tonumber(event.attempt)
  if before then
    local attempt = tonumber(ARGV[4])
    if attempt < before then return nil end
    if attempt == before then
      if event.type ~= 'progress' then return nil end
      if ARGV[5] ~= '' and tonumber(ARGV[5]) < (tonumber(event.progress) or 0) then return nil end
    end
  end
end

-- seq: the clock in microseconds, so that it rises even when the hash was lost; and always above the last one.
local time = redis.call('TIME')
local seq = time[1] * 1000000 + time[2]
if known_seq and known_seq >= seq then seq = known_seq + 1 end
local seq_text = string.format('%.0f', seq)

local event = '{"seq":' .. seq_text .. ',' .. string.sub(ARGV[2], 2)
-- A Redis whose memory is full remembers nothing new (hence pcall); who watches is to see the event all the same.
if known_seq then
  redis.pcall('HSET', key, 'seq', seq_text, field, event)
else
  redis.pcall('HSET', key, 'seq', seq_text, 'from', seq_text, field, event)
end

-- The time to live is renewed with the first event of each minute, which the last seq tells; and with each event while
-- the clock is behind the last seq and tells nothing.
if not known_seq or seq == known_seq + 1 or math.floor(known_seq / 60000000) ~= math.floor(seq / 60000000) then
  redis.call('EXPIRE', key, ARGV[8])
end

local most = tonumber(ARGV[6])
if not last and redis.call('HLEN', key) - 2 > most + ARGV[7] then
  local jobs, all = {}, redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    if all[i] ~= 'seq' and all[i] ~= 'from' then
      jobs[#jobs + 1] = { tonumber(string.match(all[i + 1], '^{"seq":(%d+)')) or 0, all[i] }
    end
  end
  table.sort(jobs, function(a, b) return a[1] < b[1] end)
  local oldest = {}
  for i = 1, #jobs - most do oldest[i] = jobs[i][2] end
  redis.call('HDEL', key, unpack(oldest))
  redis.call('HSET', key, 'from', string.format('%.0f', jobs[#oldest][1]))
end

redis.call('PUBLISH', ARGV[1], event)
return seq
