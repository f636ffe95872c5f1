-- renew.lua: the proxy renews a lock that one of its connections holds. Never shortens, never brings
-- back. Runs on the proxy's own connection (leave.lua).
--
-- ARGV  7 token   8 seq of the attempt   9 lease in ms
-- Returns 1: renewed; 0: the lock is lost; 2: a later call with the same token has it, or it has a lease
-- by now; 3: its token ended it; 4: it was a promise, and KS.FORGET has revoked it and told so.
-- Atomic: a lock that has changed hands must not be renewed for its former owner.

return run(function()
  call('SELECT', DB)
  local token, lease = ARGV[7], tonumber(ARGV[9])
  local s = read()
  local attempt = INSTANCE .. ':' .. ARGV[8]
  if s.owner ~= token then
    local ends = ',' .. (s.ends or '')
    if string.find(ends, ',' .. attempt .. ',', 1, true) then return 3 end
    return string.find(ends, ',' .. attempt .. ' revoked,', 1, true) and 4 or 0
  end
  if s.tok == token and (s.by.attempt ~= attempt or not s.session) then return 2 end
  if call('PTTL', LOCK) < lease then call('PEXPIRE', LOCK, int(lease)) end
  call('PEXPIRE', FENCE, fence_ttl(lease))
  return 1
end)
