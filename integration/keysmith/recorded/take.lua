-- take.lua: takes the lock, or stands in line; also sent again when a waiter finds that it stands nowhere.
-- KEYS none: its client library passes key names as arguments.
-- ARGV 1 id   2 expiration in ms   3 lock   4 queue   5 set   6 channel
-- Returns 1 (taken, or already its own), 0 (in line).

local id, ms, lock, queue, set, channel = unpack(ARGV)

if redis.call('GET', lock) == id then return 1 end
if redis.call('SET', lock, id, 'PX', ms, 'NX') then -- whoever stands in line
  redis.call('PUBLISH', channel, id)
  return 1
end
local others = redis.call('EXISTS', queue) == 1
redis.call('RPUSH', queue, id) -- also when it is there already
redis.call('HSET', set, id, 0)
if not others then -- who comes later inherits what is left
  redis.call('PEXPIRE', queue, ms)
  redis.call('PEXPIRE', set, ms)
end
return 0
