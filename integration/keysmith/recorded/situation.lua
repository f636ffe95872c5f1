-- situation.lua: what a process asks every expiration about each of its calls.
-- KEYS none. ARGV as in take.lua. Returns 0 (waits), 1 (has the lock), 2 (neither).

local id, _, lock, _, set = unpack(ARGV)

if redis.call('HEXISTS', set, id) == 1 then return 0 end
if redis.call('GET', lock) == id then return 1 end
return 2
