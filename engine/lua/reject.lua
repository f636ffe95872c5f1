-- reject.lua: KS.REJECT tells everyone who waits for the value that there will be none, and gives the
-- promise back.
--
-- KEYS  5 value   6 error (ask_memo.lua)   7 stale copy, which goes if there is a TTL
-- ARGV  7 token   8 message   9 TTL in ms for which the error answers everyone, empty: only those who
--       wait now   10 TTL in ms of the error for those
-- Returns {1, rings, 1 if KS.MEMO callers of the asking instance waited, fence of the promise}, or
-- {0, rings, 0, 0} when the token does not hold the promise.
-- Atomic: who waits for this promise is told of its end, nobody is promoted beside it.

return run(function()
  local token, message, ttl = ARGV[7], ARGV[8], ARGV[9]
  local s = read()
  if not promised(s, token) then return { 0, rings, 0, '0' } end
  call('GET', KEYS[6])
  call('GET', KEYS[7])
  local owner, instances = strike(s)
  local fence = since(s) -- a stranger's promise has none of its own
  local mine = announce(instances, 'e ' .. DB .. ' ' .. #NAME .. ' ' .. fence .. ' ' .. NAME .. message)
  dismiss(s)
  ended(s)

  guard(s, true)
  tell(owner and owner.token)
  local kind = ttl == '' and 'o' or 'm'
  call('SET', KEYS[6], kind .. ' ' .. fence .. ' ' .. message, 'PX', ttl == '' and ARGV[10] or ttl)
  if kind == 'm' then call('DEL', KEYS[7]) end
  call('HSET', FENCE, 'n', fence)
  if not owner then call('PEXPIRE', FENCE, fence_ttl(0)) end
  pass_on(s, owner)
  dismissed(s)
  return { 1, rings, mine, fence }
end)
