-- release.lua: KS.UNLOCK gives the lock back.
--
-- ARGV  7 token
-- Returns {1, rings}, or {0, rings} when the token does not have the lock.
-- Atomic: the lock goes to the next in line without a moment in which it is free.

return run(function()
  local s = read()
  if s.owner ~= ARGV[7] then return { 0, rings } end
  local owner, head = pick(s, walk())
  ring(owner, owner and owner.token)
  ring(head, head and head.token)
  dismiss(s)
  ended(s)
  guard(s, false)
  tell(owner and owner.token)
  pass_on(s, owner)
  dismissed(s)
  return { 1, rings }
end)
