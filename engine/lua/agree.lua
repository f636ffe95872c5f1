-- agree.lua: all proxies of one Redis must split names alike, or a name has two locks. Runs on the
-- proxy's own connection, in database 0.
--
-- KEYS  1 what they agree on   ARGV  1 this proxy's ks-tag-split   2 TTL in ms   3 1: say so if nobody does
-- Returns the value that holds; empty: nobody has said so.
-- Atomic: of two that start at once with different values one must see the other's.

local said = redis.pcall('GET', KEYS[1])
if type(said) == 'table' and said.err then return said end
if said and said ~= ARGV[1] then return said end
if not said and ARGV[3] ~= '1' then return '' end
local set = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if type(set) == 'table' and set.err then return set end
return ARGV[1]
