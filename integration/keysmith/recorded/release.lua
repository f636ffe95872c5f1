-- release.lua: the owner hands the lock to the first in line that is in the set as well, or removes all
-- three keys; anyone else only leaves the set, and its id stays in the list.
-- KEYS none. ARGV as in take.lua. Returns nothing.

local id, ms, lock, queue, set, channel = unpack(ARGV)

if redis.call('GET', lock) ~= id then
  redis.call('HDEL', set, id)
  return
end
local heir
repeat
  heir = redis.call('LPOP', queue)
until not heir or redis.call('HDEL', set, heir) == 1
if heir then
  redis.call('SET', lock, heir, 'PX', ms) -- the releaser's expiration, not the heir's
  redis.call('PEXPIRE', set, ms)
  redis.call('PEXPIRE', queue, ms)
  redis.call('PUBLISH', channel, heir)
else
  redis.call('UNLINK', lock)
  redis.call('UNLINK', queue)
  redis.call('UNLINK', set)
end
