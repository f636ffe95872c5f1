-- status.lua: KS.STATUS looks, and changes nothing.
--
-- KEYS  5 value   6 error
-- Returns {held 0/1, ms left (-1: no TTL, -2: not held), who asked for it, fence, waiters, value 0/1,
-- error 0/1}; an error for those only who were waiting does not count.
-- Atomic: the fields are of one moment.

return run(function()
  local s = read()
  local who = string.sub(s.own, 3)
  local memoized = string.sub(call('GET', KEYS[6]) or '', 1, 1) == 'm'
  return { s.owner and 1 or 0, call('PTTL', LOCK), who, int(s.n), call('LLEN', QUEUE),
    call('EXISTS', KEYS[5]), memoized and 1 or 0 }
end)
