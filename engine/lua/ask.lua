-- ask.lua: asks for the lock; the body of ask_lock and ask_memo.
--
-- ARGV  7 token   8 seq of the attempt   9 1: the attempt's first ask   10 lease in ms
--       11 1: does not wait   12 highest fence this proxy has seen   13 who asks (line.lua, own)
-- Returns {granted, fence, rings} | {wait, ms left (-1: no TTL), first in line 0/1, holder does not
-- know us 0/1, length of the line, since (line.lua), rings} | {no, rings} | {gone, rings}: a later call with
-- this token took over.
-- Atomic: a free lock is taken by whoever is first in line, and by no one in between.

local function next_fence(s)
  local n = math.max(s.n + 1, s.us, tonumber(ARGV[12]) + 1)
  if n >= MAXFENCE then refuse({ err = 'ERR the fence of this lock is out of range' }) end
  return n
end

-- own: the lock is the caller's. Claimed here if it was handed over, else its lease begins anew.
local function own(s, a)
  local left = call('PTTL', LOCK)
  local fence = s.n
  if s.tok ~= a.token or s.st ~= 'h' then fence = next_fence(s) end
  if left > a.lease then -- the first in line, and who waits for the end, believe in the longer one
    local head = pick(s, walk())
    ring(head, head and head.token)
    ended(s)
  end
  if a.elder and not a.before.kept then ring(a.before, a.token) end
  if a.place then drops[#drops + 1] = a.token end
  guard(s, false)
  tell()
  call('PEXPIRE', LOCK, int(a.lease))
  record(a.token, a.id, 'h', a.lease, fence, ARGV[13])
  settle()
  restore(s)
  refresh()
  return { 'granted', int(fence), rings }
end

-- listed: the caller is in the list and not in the hash alone, as when somebody has deleted the list. It is
-- looked for only where some must be missing.
local function listed(a)
  if not a.place or a.length == 0 then return false end
  if call('HLEN', WAITING) <= a.length then return true end
  for token in walk() do
    if token == a.token then return true end
  end
  return false
end

-- enter puts the caller into the line, or back to its front, or refreshes its place.
local function enter(s, a, front)
  if front then
    call('LPUSH', QUEUE, a.token)
  elseif not a.listed then
    call('RPUSH', QUEUE, a.token)
  end
  if a.entry ~= a.id then call('HSET', WAITING, a.token, a.id) end
  lined = true
  refresh()
end

-- stand: somebody has the lock.
local function stand(s, a)
  if a.nowait then return { 'no', rings } end
  local left = call('PTTL', LOCK)
  local stranger = s.owner ~= s.tok or s.st == 'f'
  local front = s.lapsed and s.tok == a.token
  local first = front or a.length == 0 or a.head == a.token
  if a.elder and not a.before.kept then ring(a.before, a.token) end
  guard(s, not a.place and not front)
  tell()
  if s.lapsed or s.tok == a.token then forget_record() end -- its fence is not this caller's any more
  if front then s.lapsed = false end
  restore(s)
  enter(s, a, front)
  return { 'wait', left, first and 1 or 0, stranger and 1 or 0, math.max(a.length, 1), since(s), rings }
end

local function take(s, a, head)
  local fence = next_fence(s)
  if head and head.token ~= a.token then ring(head, head.token) end
  if a.elder and not a.before.kept then ring(a.before, a.token) end
  if a.place then drops[#drops + 1] = a.token end
  ended(s)
  guard(s, not a.place and not a.returning)
  tell(a.token)
  settle()
  call('SET', LOCK, a.token, 'PX', int(a.lease))
  record(a.token, a.id, 'h', a.lease, fence, ARGV[13])
  if s.watching then call('HDEL', FENCE, 'w') end
  restore(s)
  refresh()
  return { 'granted', int(fence), rings }
end

-- give: the lock is free and somebody else is first: it is his.
local function give(s, a, owner, head)
  ring(owner, owner.token)
  if head and head.token ~= a.token then ring(head, head.token) end
  if a.elder and not a.before.kept then ring(a.before, a.token) end
  ended(s)
  guard(s, not a.place and not a.nowait)
  tell(owner.token)
  if s.tok == a.token then forget_record() end
  pass_on(s, owner)
  if a.nowait then return { 'no', rings } end
  a.length = a.length - 1
  enter(s, a, false)
  local first = not head or head.token == a.token
  return { 'wait', owner.instance and CLAIM or tonumber(LOCKTTL), first and 1 or 0,
    owner.instance and 0 or 1, math.max(a.length, 1), since(s), rings }
end

-- impatient: the caller has something else, if it is not his turn.
local function ask(s, kind, impatient)
  local a = {
    token = ARGV[7], attempt = INSTANCE .. ':' .. ARGV[8], first = ARGV[9] == '1',
    lease = tonumber(ARGV[10]), nowait = ARGV[11] == '1' or impatient,
    entry = call('HGET', WAITING, ARGV[7]),
    head = call('LINDEX', QUEUE, 0), length = call('LLEN', QUEUE),
  }
  a.id = kind .. ':' .. a.attempt
  a.place = a.entry and parse(a.entry)
  a.listed = listed(a)
  a.returning = s.lapsed and s.tok == a.token
  a.before = a.place
  if not a.place and s.tok == a.token and (s.owner == a.token or s.lapsed) then a.before = s.by end
  a.elder = a.before and a.before.attempt ~= a.attempt
  if a.elder and not a.first then return { 'gone', rings } end

  if s.owner == a.token then return own(s, a) end
  if s.owner then return stand(s, a) end
  if a.returning then -- handed over, run out, and here he is: he was first
    s.lapsed = false
    local head = pick(s, walk())
    return take(s, a, head)
  end
  local owner, head = pick(s, walk(), a.token)
  if not owner or owner.token == a.token then return take(s, a, head) end
  return give(s, a, owner, head)
end
