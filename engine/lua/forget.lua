-- forget.lua: KS.FORGET: what the value is made from has changed. The value goes, its stale copy, and a rejection
-- that is kept for everyone; a promise that its generator knows of is taken from him, so what he made from the old source can't be
-- stored any more, and the next in line gets it. One that was only handed over stands: who claims it begins
-- later. So do a lock of KS.LOCK, and a stranger's, of which nobody knows what it is.
--
-- KEYS  5 value   6 error (ask_memo.lua)   7 stale copy (value.lua)   ARGV  7 locklost channel
-- Returns {1, rings, seq of the asking instance's attempt that held the promise for as long as its connection, else
-- 0}, or {0, rings, 0} when there was nothing.
-- Atomic: of a value that is being stored, either the value goes or the promise was gone before.

-- revoke takes the promise away, and clears what it is told to.
local function revoke(s, clear)
  local owner, head = pick(s, walk())
  ring(owner, owner and owner.token)
  ring(head, head and head.token)
  dismiss(s)
  ended(s)
  guard(s, false)
  tell(owner and owner.token, { ARGV[7], s.tok })
  clear()
  pass_on(s, owner)
  if s.session then note_end(s, ' revoked') end
end

return run(function()
  local s = read()
  local gone = {}
  if call('GET', KEYS[5]) then gone[1] = KEYS[5] end
  if string.sub(call('GET', KEYS[6]) or '', 1, 1) == 'm' then gone[#gone + 1] = KEYS[6] end
  if call('GET', KEYS[7]) then gone[#gone + 1] = KEYS[7] end
  local function clear()
    if #gone > 0 then call('DEL', unpack(gone)) end
  end
  if s.owner and s.owner == s.tok and s.st == 'h' and s.by.kind == 'm' then
    revoke(s, clear)
    return { 1, rings, s.session and s.by.instance == INSTANCE and s.by.seq or '0' }
  end
  guard(s, false)
  clear()
  return { #gone > 0 and 1 or 0, rings, '0' }
end)
