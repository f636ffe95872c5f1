-- value.lua: reads a value for this proxy's KS.MEMO callers, in their database, on the proxy's own
-- connection (SELECT in a script ends with it), and drops a stale copy that is of another value.
--
-- KEYS  1 value   2 stale copy: <least> <most> <value>. The value's TTL ends between these two, in ms of Redis's
--       clock: who finds no value before the first finds one that was deleted
-- ARGV  1 database   2 now in ms (empty: Redis's clock; tests set it)   3 1: it is for the copy's sake alone
-- Returns the value, nil if there is none.
-- Atomic: no other command may come between SELECT and GET on a pooled connection.

local TOLERANCE = 20 -- ms that a TTL may be off: the clock goes on while a script runs

local selected = redis.pcall('SELECT', ARGV[1])
if selected.err then return selected end

local function now()
  if ARGV[2] ~= '' then return tonumber(ARGV[2]) end
  local t = redis.pcall('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local before = now() -- to get a large value takes its time, and some Redises stop their clock meanwhile
local value = redis.pcall('GET', KEYS[1])
if type(value) == 'table' then return value end

local copy = redis.pcall('GET', KEYS[2])
local least, most, at = string.match(type(copy) == 'string' and copy or '', '^(%d+) (%d+) ()')
if at then
  local other
  if value then
    local left = redis.pcall('PTTL', KEYS[1])
    other = left < 0 or now() + left < least - TOLERANCE or before + left > most + TOLERANCE or value ~= string.sub(copy, at)
  else
    other = now() < tonumber(least)
  end
  if other then redis.pcall('DEL', KEYS[2]) end
end
return ARGV[3] ~= '1' and value
