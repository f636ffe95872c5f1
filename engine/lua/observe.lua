-- observe.lua: KS.WAIT looks at the hold that stands, and asks to be rung at its end.
--
-- Returns {free}, or {held, token, fence (empty: not claimed yet), ms left (-1: no TTL)}.
-- Atomic: the hold that was looked at is the one whose end rings.

return run(function()
  local s = read()
  if not s.owner then return { 'free' } end
  local left, kept = call('PTTL', LOCK), call('PTTL', FENCE)
  if not string.find(s.watching or '', INSTANCE, 1, true) then
    guard(s, true)
    call('HSET', FENCE, 'w', (s.watching or '') .. ' ' .. INSTANCE)
    call('PEXPIRE', FENCE, int(math.max(kept, DAY + SLACK)))
  end
  return { 'held', s.owner, s.tok == s.owner and s.st == 'h' and int(s.n) or '', left }
end)
