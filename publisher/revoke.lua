-- Revokes a user: tokens that were issued before now are refused, on every replica.
--
-- KEYS[1]  the hash of revocations: `sub` to the moment, in microseconds since the epoch
-- ARGV[1]  its Redis channel
-- ARGV[2]  the user's `sub`
-- ARGV[3]  the moment, of a revocation that Redis has lost; 0: now
-- ARGV[4]  the most users that are remembered
-- ARGV[5]  time to live, in seconds
-- ARGV[6]  PUBLISH; or SPUBLISH in a Cluster
--
-- Returns the moment. Beyond the bound, those who were revoked longest ago are forgotten.

local call = redis.call
local key, sub = KEYS[1], ARGV[2]

local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local at = tonumber(ARGV[3])
if at == 0 then at = now end
at = math.max(at, tonumber(call('HMGET', key, sub)[1]) or 0)

-- string.format, because Lua writes such numbers as 1.7e+15.
local text = string.format('%.0f', at)
call('HSET', key, sub, text)
call('EXPIRE', key, ARGV[5])

if call('HLEN', key) > tonumber(ARGV[4]) then
  local all, moments, least = call('HGETALL', key), {}, now - ARGV[5] * 1000000
  for i = 2, #all, 2 do moments[#moments + 1] = tonumber(all[i]) or 0 end
  table.sort(moments)
  -- A tenth more than must be: this reads all of it, and the next one need not.
  local oldest = moments[math.ceil(#moments / 10)]
  for i = 2, #all, 2 do
    local moment = tonumber(all[i]) or 0
    if (moment <= oldest or moment < least) and all[i - 1] ~= sub then call('HDEL', key, all[i - 1]) end
  end
end

call(ARGV[6], ARGV[1], text .. ' ' .. sub)
return at
