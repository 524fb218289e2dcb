-- Publishes one event of a job, by the rules for attempts, and remembers it as the last event of its part.
--
-- KEYS[1]  the project's hash. Its fields:
--            <jobId>\n<sentenceId>  a part's last event as JSON; the job itself has no sentenceId
--            \t<jobId>              the job's attempt and how many sentences it has: `3:12`, or `:12` without an attempt.
--                                   Only where the job's own event does not tell
--            seq                    the project's newest seq
--            from                   the seq from which on the hash is complete. Missing where an event could not be
--                                   remembered: then anything may be missing
--            left, left_bytes       new parts, and bytes of large events, until the bounds are checked again
--            format                 the format of the hash: 2. Version 0.1 wrote none. A format to which this script must
--                                   not write has a higher number, and no `seq`: docs/upgrading.md
-- ARGV[1]  the project's Redis channel
-- ARGV[2]  the event: one JSON object that begins with its type and has no seq
-- ARGV[3]  the part's field
-- ARGV[4]  the event's attempt; '' without one; `+4` asks for the next attempt, numbered 4 at least
-- ARGV[5]  its progress, or '' if the event is an end
-- ARGV[6]  the bounds of the hash: `jobs:parts:bytes`
-- ARGV[7]  time to live, in seconds
-- ARGV[8]  PUBLISH; or SPUBLISH in a Cluster, where only the shard of the project hears it
--
-- Answers with the error NEWERFORMAT, and sends and writes nothing, where a later version keeps the project in a format
-- that this script does not know.
--
-- Returns the event's seq, or nil when it was refused: its part has ended, or was further, in the same attempt.
-- Or a table: {seq, attempt} where the next attempt was asked for; {0, attempt} when the event was refused because that
-- attempt replaced its own; {seq, attempt or -1, error} when the event was sent but cannot be remembered.

-- What costs how much, in microseconds on a quiet machine (bench/README.md, P8): a call of a script that does nothing
-- 1.4; HMGET, TIME, HSET and PUBLISH together 4.5; all else 1.5 without an attempt and 2.5 with one. So a redis.call
-- that can be left out is, and so are string.format (0.7) and cjson.decode (1.5) where an event goes its usual way.
-- There is no `#!lua` line: no gain from one could be measured, and Redis 6 does not know it.

local call, find, match, sub = redis.call, string.find, string.match, string.sub
local key, field, attempt, progress = KEYS[1], ARGV[3], ARGV[4], ARGV[5]

-- A part of this size may stand 10,000 times within the bound of bytes, so the bytes of smaller ones are not counted.
local SMALL = 838

local FORMAT = '2'

-- The largest number that an attempt may have, and above every seq of a clock.
local MAX = 9007199254740991

-- What reads events and headers. A function that is made costs as much as it saves: few events need them.
local function readers()
  -- An attempt that this script wrote, or nil: others may have written anything.
  local function attempt_of(value)
    local number = tonumber(value)
    return number and number >= 0 and number <= MAX and number % 1 == 0 and number or nil
  end

  -- A part's last event, or nil if it cannot be read.
  local function decoded(text)
    local readable, event = pcall(cjson.decode, text)
    return readable and type(event) == 'table' and event or nil
  end

  -- A job's attempt and its sentences, or nil.
  local function read_header(text)
    local digits, count = match(text or '', '^(%d*):(%d+)$')
    local number = attempt_of(digits)
    if not count or #count > 9 or (digits ~= '' and not number) then return nil end
    return number, tonumber(count)
  end

  local function header_of(number, sentences)
    return (number and string.format('%.0f', number) or '') .. ':' .. sentences
  end

  return attempt_of, decoded, read_header, header_of
end

-- What is known: of the project, of the part, and only where that does not decide, of the job.

local is_numbered, is_own = attempt ~= '', string.byte(field, -1) == 10
local is_zero = progress == '0' or progress == '0.0' -- mostly the first event of a job
local job, header_field, known
if is_zero and (is_numbered or is_own) then
  job = sub(field, 1, find(field, '\n', 1, true) - 1)
  header_field = '\t' .. job
  known = call('HMGET', key, 'seq', field, header_field)
elseif is_numbered or is_own then
  known = call('HMGET', key, 'seq', field)
else
  known = call('HMGET', key, 'seq')
end
local known_seq, last, header = tonumber(known[1]), known[2], known[3]
-- What no clock gave, somebody else wrote; it must not stop the project by being the last seq there can be.
if known_seq and not (known_seq < MAX) then known_seq = nil end
-- Only where there is no seq, so that usual events do not pay for it.
if not known_seq then
  local format = match(call('HMGET', key, 'format')[1] or '', '^%d+$')
  if format and tonumber(format) > tonumber(FORMAT) then
    return redis.error_reply('NEWERFORMAT the project is kept in format ' .. format .. '; this publisher knows ' .. FORMAT)
  end
end

-- The rules for attempts; publisher/job_rules.py has them in Python.

-- The usual case, at a glance: the last event is a progress of this attempt, as this script wrote it. For in JSON, the
-- bytes ,"attempt": are a key, whatever the texts say: a quote inside a text has a backslash before it, not a comma.
-- With no brace before, it is a key of the event itself. An attempt that begins deletes what earlier ones left, so the
-- number of a part that is there is the job's.
local reached
if is_numbered and last and find(last, ',"type":"progress",', 24, true) == 24 then
  local _, colon = find(last, ',"attempt":', 1, true)
  if colon and (find(last, '{', 2, true) or colon) >= colon then
    local before, percent = match(last, '^(%d+),"progress":([^,}]+)', colon + 1)
    reached = before == attempt and tonumber(percent)
    -- It allows, and never refuses: what somebody else wrote may only look like this.
    if reached and progress ~= '' and reached > tonumber(progress) then reached = nil end
  end
end

local begins = false -- does the event begin an attempt, which replaces everything else of the job?
local answer -- the number that was asked for
local new_header, has_others

-- Without an attempt arrival decides. A progress of 0 of the job itself begins it anew, if it had begun; and its number
-- must not be forgotten with the event that carried it.
if (is_numbered and not reached) or (not is_numbered and last and (is_zero or find(last, ',"attempt":', 1, true))) then
  local attempt_of, decoded, read_header, header_of = readers()
  local number, sentences, event
  if not job then
    job = sub(field, 1, find(field, '\n', 1, true) - 1)
    header_field = '\t' .. job
    header = call('HMGET', key, header_field)[1]
  end
  if last then event = decoded(last) end
  local last_number = event and attempt_of(event.attempt)
  number, sentences = read_header(header)
  if sentences then
    has_others = sentences > 0 or not is_own
  else -- a new job, or one without sentences, or one written by version 0.1
    header = false
    local own = not is_own and call('HMGET', key, job .. '\n')[1]
    local own_event = own and decoded(own)
    number = own_event and attempt_of(own_event.attempt)
    has_others = last or own
  end
  -- Version 0.1 writes no headers, so its event may carry more than the header says.
  if last_number and last_number > (number or -1) then number = last_number end

  if not is_numbered then
    begins = is_zero and event and event.type and (event.type ~= 'progress' or (tonumber(event.progress) or 0) > 0)
  elseif sub(attempt, 1, 1) == '+' then
    local least = tonumber(attempt)
    number = math.min(number and number >= least and number + 1 or least, MAX)
    answer, begins = number, true
  else
    local given = tonumber(attempt)
    if number and given < number then return { 0, number } end
    if not number or given > number then
      number, begins = given, true
    elseif last_number == given then
      if event.type ~= 'progress' then return nil end
      if progress ~= '' and tonumber(progress) < (tonumber(event.progress) or 0) then return nil end
    end
  end

  local is_new_sentence = not is_own and (begins or not last)
  if is_new_sentence or (begins and sentences) or (number and not is_numbered and not header) then
    new_header = header_of(number, (begins and 0 or sentences or 0) + (is_new_sentence and 1 or 0))
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

local event = '{"seq":' .. seq_text .. ',' .. sub(ARGV[2], 2)
if answer then
  local first, last_byte = find(event, ',"attempt":"next"', 1, true)
  event = sub(event, 1, first + 10) .. string.format('%.0f', answer) .. sub(event, last_byte + 1)
end

-- What the attempt replaces goes first: where the event cannot be remembered, late viewers must not be shown what came
-- before it. An error here comes again below. In calls of at most 1,000 names: `unpack` has a limit.
if begins and has_others then
  local replaced, prefix = {}, job .. '\n'
  local names = redis.pcall('HKEYS', key)
  if names.err then -- a user with the rights that version 0.1 needed
    names = {}
    local all = call('HGETALL', key)
    for i = 1, #all, 2 do names[#names + 1] = all[i] end
  end
  for _, name in ipairs(names) do
    if name ~= field and sub(name, 1, #prefix) == prefix then replaced[#replaced + 1] = name end
  end
  for first = 1, #replaced, 1000 do
    redis.pcall('HDEL', key, unpack(replaced, first, math.min(first + 999, #replaced)))
  end
end

-- Is the part new? Of a sentence without an attempt, HSET tells by how many fields it added, but in a new hash.
local is_new_part = not last
if not is_numbered and not is_own and not known_seq then
  is_new_part = not call('HMGET', key, field)[1]
end

-- A Redis whose memory is full, say, remembers nothing new (hence pcall); viewers are to see the event all the same.
local added
if known_seq and not new_header then
  added = redis.pcall('HSET', key, 'seq', seq_text, field, event)
elseif known_seq then
  added = redis.pcall('HSET', key, 'seq', seq_text, header_field, new_header, field, event)
elseif new_header then
  added = redis.pcall(
    'HSET', key, 'format', FORMAT, 'seq', seq_text, 'from', seq_text, header_field, new_header, field, event
  )
else
  added = redis.pcall('HSET', key, 'format', FORMAT, 'seq', seq_text, 'from', seq_text, field, event)
end

if added ~= 0 and type(added) == 'table' then
  -- But a Redis that became a replica is the wrong one, and so may be one that lost its replicas where it may not write
  -- without them (min-replicas-to-write): the publisher is to find the right one.
  if find(added.err, 'READONLY', 1, true) then
    return redis.error_reply("READONLY You can't write against a read only replica.")
  end
  if find(added.err, 'NOREPLICAS', 1, true) then
    return redis.error_reply('NOREPLICAS Not enough good replicas to write.')
  end
  -- A late viewer must not be shown an older event as the newest, and a returning one must be told of a gap: a hash
  -- without `from` is complete from nowhere on. Deleting is allowed while memory is full.
  local deleted = redis.pcall('HDEL', key, 'format', 'seq', 'from', field)
  -- Where nothing may be written at all (MISCONF: a disk that is full, say), the event is not sent either: later viewers
  -- would be shown the event before it, and nothing would tell them. A tracked job's end is tried again.
  if type(deleted) == 'table' then return redis.error_reply(added.err) end
  call(ARGV[8], ARGV[1], event)
  return { seq, answer or -1, added.err }
end

-- The time to live is renewed with the first event of each minute, which the last seq tells; and with each event while
-- the clock is behind the last seq and tells nothing.
if not known_seq or seq == known_seq + 1 or known_seq < seq - seq % 60000000 then
  call('EXPIRE', key, ARGV[7])
end

if not is_numbered and not is_own then
  if known_seq then is_new_part = added > 0 end
  if is_new_part then
    local attempt_of, decoded, read_header, header_of = readers()
    local id = sub(field, 1, find(field, '\n', 1, true) - 1)
    local texts = call('HMGET', key, '\t' .. id, id .. '\n')
    local number, sentences = read_header(texts[1])
    if not sentences then
      local own = texts[2] and decoded(texts[2])
      number, sentences = own and attempt_of(own.attempt), 0
    end
    call('HSET', key, '\t' .. id, header_of(number, sentences + 1))
  end
end

-- The bounds. A check reads the whole hash, so it says when the next one is needed. Up to 1,125 fields none is.
local is_due = false
if is_new_part or #event > SMALL then
  local function use(name, amount)
    local left = (tonumber(call('HMGET', key, name)[1]) or 0) - amount
    if left >= 0 and left < MAX then call('HSET', key, name, string.format('%.0f', left)) else is_due = true end
  end
  if is_new_part and call('HLEN', key) > 1125 then use('left', 1) end
  if #event > SMALL then use('left_bytes', #event) end
end
if is_due then
  local _, decoded = readers()
  local jobs, list, parts, bytes = {}, {}, 0, 0
  local all = call('HGETALL', key)
  for i = 1, #all, 2 do
    local name, value = all[i], all[i + 1]
    local id = match(name, '^([^\n]*)\n')
    if id then
      local each = jobs[id]
      if not each then
        each = { names = { '\t' .. id }, bytes = 0, newest = 0, runs = false }
        jobs[id], list[#list + 1] = each, each
      end
      local part_seq, kind = match(value, '^{"seq":(%d+),"type":"([%l_]+)"')
      part_seq = tonumber(part_seq) or 0
      if part_seq > MAX then part_seq = 0 end
      if not kind then
        local event_of_others = decoded(value)
        kind = event_of_others and event_of_others.type
      end
      each.names[#each.names + 1] = name
      each.bytes = each.bytes + #name + #value
      if part_seq > each.newest then each.newest = part_seq end
      if kind == 'progress' then each.runs = true end
      if #name == #id + 1 then each.own, each.own_seq = kind, part_seq end
      parts, bytes = parts + 1, bytes + #name + #value
    end
  end
  -- Whole jobs are forgotten: first those that ended longest ago, then those that run and are silent for longest.
  for _, each in ipairs(list) do
    if each.own then each.runs = each.own == 'progress' end
    each.since = each.own and not each.runs and each.own_seq or each.newest
  end
  table.sort(list, function(a, b)
    if a.runs ~= b.runs then return b.runs end
    return a.since < b.since
  end)
  local most_jobs, most_parts, most_bytes = match(ARGV[6], '^(%d+):(%d+):(%d+)$')
  local left, names, from = #list, {}, 0
  for _, each in ipairs(list) do
    if left <= most_jobs + 0 and parts <= most_parts + 0 and bytes <= most_bytes + 0 then break end
    left, parts, bytes = left - 1, parts - #each.names + 1, bytes - each.bytes
    from = math.max(from, each.newest)
    for _, name in ipairs(each.names) do names[#names + 1] = name end
  end
  for first = 1, #names, 1000 do
    call('HDEL', key, unpack(names, first, math.min(first + 999, #names)))
  end
  local beginning = tonumber(call('HMGET', key, 'from')[1])
  if beginning and beginning < from then call('HSET', key, 'from', string.format('%.0f', from)) end
  -- No bound can be passed before so many parts and bytes were added, and a little more: at a bound, the slack spreads
  -- the cost of a check over 125 new parts or a megabyte. Parts are not counted until there are 1,125 fields.
  local uncounted = math.max(0, 1125 - call('HLEN', key))
  left = math.min(most_jobs - left, most_parts - parts) + 125 - uncounted
  call('HSET', key, 'left', left, 'left_bytes', string.format('%.0f', most_bytes - bytes + 1048576))
end

call(ARGV[8], ARGV[1], event)
return answer and { seq, answer } or seq
