-- extend.lua: KS.EXTEND lets the lease end that long from now.
--
-- ARGV  7 token   8 lease in ms
-- Returns {1, rings}, or {0, rings} when the token does not hold the lock. One that a connection holds
-- stays as it is.
-- Atomic: the lease may not run out, or change its owner, between the look and the change.

return run(function()
  local token, lease = ARGV[7], tonumber(ARGV[8])
  local s = read()
  if s.owner ~= token or (s.tok == token and s.st ~= 'h') then return { 0, rings } end
  if s.session then return { 1, rings } end
  local left = call('PTTL', LOCK)
  if left < 0 or left > lease then -- the first in line, and who waits for the end, believe in the longer one
    local head = pick(s, walk())
    ring(head, head and head.token)
    ended(s)
  end
  guard(s, false)
  tell()
  call('PEXPIRE', LOCK, int(lease))
  if s.tok == token then call('PEXPIRE', FENCE, fence_ttl(lease)) end
  settle()
  return { 1, rings }
end)
