-- release.lua: KS.UNLOCK gives the lock back.
--
-- ARGV  7 token   8 to 11 who is first in line as far as the asking proxy knows, if that is one of its own:
--       token (empty: nobody), seq, lease in ms, who asks (line.lua, own)   12 highest fence this proxy has seen
-- Returns {1, rings}, or {0, rings} when the token does not have the lock, or {1, rings, fence, first}:
-- the lock went to the named one with all of his lease; first are the rings of who is first behind him, if of this
-- proxy, to be told that he need not ask.
-- Atomic: the lock goes to the next in line without a moment in which it is free.

return run(function()
  local s = read()
  if s.owner ~= ARGV[7] then return { 0, rings } end
  -- A KeySmith process that takes a free lock past its own place leaves that in line, for nobody.
  local stands = call('HGET', WAITING, s.owner)
  if stands then drops[1] = s.owner end
  local owner, head = pick(s, walk(), nil, stands and { [s.owner] = true })
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
