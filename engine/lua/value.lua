-- value.lua: reads a value for this proxy's KS.MEMO callers, in their database, on the proxy's own
-- connection (SELECT in a script ends with it).
--
-- KEYS  1 value   ARGV  1 database
-- Returns the value, nil if there is none.
-- Atomic: no other command may come between SELECT and GET on a pooled connection.

local selected = redis.pcall('SELECT', ARGV[1])
if selected.err then return selected end
return redis.pcall('GET', KEYS[1])
