-- line.lua: what every operation on one name shares; each script is this text followed by its own.
--
-- KEYS  1 lock     string: the owner's token, its TTL is the lease
--       2 queue    list of the waiting tokens, first come first
--       3 waiting  hash token -> place: <kind>:<instance>:<seq>[|[!~]<ms>]; kind is l (KS.LOCK) or m
--                  (KS.MEMO); |<ms>: could not be rung since then; |!<ms>: was handed the lock and
--                  did not claim it, must ask himself; |~<ms>: its call is over, kept a while for
--                  the next with the same token. KeySmith's own waiters are just 0.
--       4 fence    hash n: last fencing number; tok, att, st: who was granted (st h), handed (p: not
--                  yet claimed, f: to a KeySmith waiter) the lock and by which place; own: how and
--                  by whom it was asked for, "s" (SESSION) or "l" (lease), address and name of the
--                  client; x: suspect instances as <instance>@<ms>; w: instances where KS.WAIT
--                  callers wait for the end of the hold; end: the attempts of the last connections
--                  whose hold was ended elsewhere by its token, each as "<attempt>," or "<attempt> revoked,"
--                  (forget.lua), the last first
-- ARGV  1 now in ms (empty: Redis's clock; tests set it)   2 database   3 asking instance
--       4 name   5 locknotif channel   6 ks-lock-ttl in ms (lease of KeySmith's waiters)
--
-- Redis undoes nothing when a script fails half-way. So every script goes in this order: read and
-- type-check every key; ask who can be rung; guard(): raise whatever Redis may have against our
-- writing; tell(): PUBLISH, which an ACL may refuse; only then write. Who is told anything can't act
-- before the script has ended, and bells carry no truth, so telling first is harmless.
-- Numbers go out by int(): Redis's tostring() rounds to 14 digits.

local LOCK, QUEUE, WAITING, FENCE = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local DB, INSTANCE, NAME, LOCKNOTIF, LOCKTTL = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]

local CLAIM = 2000 -- ms a hand-off holds before the new owner's own ask claims it
local GRACE = 30000 -- ms a waiter that can't be rung keeps its place
local KEEP = 2000 -- ms the place of an ended call with a token of the caller's is kept
local QUEUETTL = 60000 -- ms a line outlives the last ask
local DAY = 86400000 -- ms a fence outlives the lease
local SLACK = 7200000 -- ms more, so that not every grant has to set it anew
local CHUNK, CHUNKS = 4, 64 -- waiters read at first, and at most, at once: mostly the first two will do
local REBUILD = 16 -- leaving waiters from which on copying the line beats one LREM each
local ENDS = 1000 -- bytes of ends that are kept: their proxies look at them at once, if they are not out of reach
local MAXFENCE = 9007199254740992 -- doubles count by ones below it

local rings = {} -- "<seq> <token>" of waiters of the asking instance, rung by the reply itself; 0: watch the
                 -- claim; -1: the KS.WAIT callers
local bells = {} -- {channel, payload} for other instances
local drops = {} -- tokens that leave the line
local marks = {} -- {token, place with a mark}

-- refuse ends the script with an error reply. The reply is kept aside, because what Lua's pcall catches
-- loses its form on some servers, and its words on others.
local failure
local function refuse(reply)
  failure = reply
  error('refused', 0)
end

-- call keeps Redis's error words, which redis.call would wrap.
local function call(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then refuse(reply) end
  return reply
end

local function int(n) return string.format('%.0f', n) end

-- fence_ttl is how long, in ms, a fence lives that is used for a lease now; short.lua counts on it.
local function fence_ttl(lease) return int(lease + DAY + SLACK) end

local function parse(place)
  local id, mark = string.match(place, '^([^|]*)|?(.*)$')
  local kind, instance, seq = string.match(id, '^(%a):(%w+):(%d+)$')
  return {
    id = id, kind = kind, instance = instance, seq = seq,
    attempt = instance and (instance .. ':' .. seq),
    failed = string.sub(mark, 1, 1) == '!',
    kept = string.sub(mark, 1, 1) == '~',
    since = tonumber(string.match(mark, '%d+') or ''),
  }
end

-- clock is Redis's, in us.
local function clock()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) * 1000 end
  local t = call('TIME')
  return tonumber(t[1]) * 1000000 + tonumber(t[2])
end

-- read returns owner (false: free), record (n, tok, att, st, own), suspects, clock. lapsed: the lock
-- was handed to tok, who did not claim it in time. session: it is held for as long as a connection.
local function read()
  local f = call('HMGET', FENCE, 'n', 'tok', 'att', 'st', 'x', 'own', 'w', 'end')
  local s = { owner = call('GET', LOCK), n = tonumber(f[1] or '0'), tok = f[2], att = f[3], st = f[4] }
  s.own = s.st == 'h' and s.tok == s.owner and f[6] or ''
  s.session = string.sub(s.own, 1, 1) == 's'
  s.watching, s.ends = f[7], f[8]
  if not s.n then refuse({ err = 'ERR the fence of this lock is not a number' }) end
  s.by = parse(s.att or '')
  s.suspects = {}
  for instance, since in string.gmatch(f[5] or '', '(%w+)@(%d+)') do s.suspects[instance] = tonumber(since) end
  s.us = clock()
  s.now = math.floor(s.us / 1000)
  s.lapsed = s.st == 'p' and s.owner ~= s.tok and s.by.instance ~= nil
  s.absolved = s.suspects[INSTANCE] ~= nil -- who asks is alive
  s.suspects[INSTANCE] = nil
  if s.lapsed and s.by.instance ~= INSTANCE then s.suspects[s.by.instance] = s.now end
  s.kept = (s.lapsed or f[5]) and call('PTTL', FENCE) or 0
  return s
end

-- since is the fence of the promise or lock that stands, or the least that the next one can have: who
-- begins to wait now waits for a promise with that fence or a later one.
local function since(s)
  if s.st == 'h' and s.tok == s.owner then return int(s.n) end
  return int(s.n + 1)
end

-- walk iterates over the line: token, place (false when it has left the hash). lined: somebody was met.
local lined = false
local function walk()
  local from, i, size, tokens, places = 0, 0, CHUNK, {}, {}
  return function()
    i = i + 1
    if i > #tokens then
      tokens = call('LRANGE', QUEUE, from, from + size - 1)
      if #tokens == 0 then return nil end
      lined = true
      places = call('HMGET', WAITING, unpack(tokens))
      from, i, size = from + #tokens, 1, math.min(2 * size, CHUNKS)
    end
    return tokens[i], places[i]
  end
end

-- subscribed counts exact subscribers: a stranger's PSUBSCRIBE * would make PUBLISH's own count lie.
local counted = {}
local function subscribed(channel)
  if counted[channel] == nil then
    counted[channel] = tonumber(call('PUBSUB', 'NUMSUB', channel)[2]) > 0
  end
  return counted[channel]
end

local function can_be_rung(s, p)
  if not p.instance then return subscribed(LOCKNOTIF) end
  if p.failed or p.kept or s.suspects[p.instance] then return false end
  return p.instance == INSTANCE or subscribed('ks/inbox:' .. p.instance)
end

-- pick returns the first two in line that can be rung; behind a KeySmith waiter, whose release rings nobody
-- of ours, the second is the first of ours, who must know that he has to look by himself. me counts whatever its marks
-- say; tokens in skip don't. Others before them are marked, or leave when they were marked too long ago.
local function pick(s, line, me, skip)
  local found, met = {}, skip or {}
  for token, place in line do
    if not met[token] then
      met[token] = true
      local p = place and parse(place)
      if not p then
        drops[#drops + 1] = token
      elseif token == me or can_be_rung(s, p) then
        p.token = token
        if #found == 0 or found[1].instance or p.instance then found[#found + 1] = p end
        if #found == 2 then break end
      elseif p.kept then
        if s.now - p.since > KEEP then drops[#drops + 1] = token end
      elseif not p.since then
        marks[#marks + 1] = { token, p.id .. '|' .. int(s.now) }
      elseif s.now - p.since > GRACE then
        drops[#drops + 1] = token
      end
    end
  end
  return found[1], found[2]
end

local function ring(p, token)
  if not p or not p.instance then return end -- KeySmith's waiters hear locknotif
  if p.instance == INSTANCE then
    rings[#rings + 1] = p.seq .. ' ' .. token
  else
    bells[#bells + 1] = { 'ks/inbox:' .. p.instance,
      'r ' .. DB .. ' ' .. p.seq .. ' ' .. #token .. ' ' .. token .. NAME }
  end
end

-- ended rings the KS.WAIT callers: the hold they wait for ends, or does so sooner than they were told.
local function ended(s)
  for instance in string.gmatch(s.watching or '', '%w+') do
    if instance == INSTANCE then
      rings[#rings + 1] = '-1'
    else
      bells[#bells + 1] = { 'ks/inbox:' .. instance, 'w ' .. DB .. ' ' .. #NAME .. ' 0 ' .. NAME }
    end
  end
end

-- dismiss tells the proxy of the connection that holds the lock to look whether it still does, and
-- dismissed writes down that the hold was ended by its token, so that it is not taken for lost there. The
-- asking proxy knows by itself.
local function elsewhere(s) return s.session and s.by.instance and s.by.instance ~= INSTANCE end

local function note_end(s, how)
  call('HSET', FENCE, 'end', string.sub(s.by.attempt .. how .. ',' .. (s.ends or ''), 1, ENDS))
end

local function dismissed(s)
  if elsewhere(s) then note_end(s, '') end
end

local function dismiss(s)
  if elsewhere(s) then
    bells[#bells + 1] = { 'ks/inbox:' .. s.by.instance,
      'd ' .. DB .. ' ' .. s.by.seq .. ' ' .. #s.tok .. ' ' .. s.tok .. NAME }
  end
end

-- guard raises, while nothing is written yet, what Redis may have against the writes to come: an ACL
-- that lacks one of their commands, and READONLY, NOREPLICAS, MISCONF by a write that changes
-- nothing. For one who asks for something new (grow) that write is one a full Redis refuses; for
-- all others it is one that passes, and lets those after it pass as well.
local function guard(s, grow)
  if redis.acl_check_cmd then -- since Redis 7.0
    for _, cmd in ipairs({
      { 'SET', LOCK, '' }, { 'DEL', LOCK }, { 'PEXPIRE', LOCK, '1' },
      { 'LREM', QUEUE, '1', '' }, { 'LPUSH', QUEUE, '' }, { 'RPUSH', QUEUE, '' },
      { 'HDEL', WAITING, '' }, { 'HSET', WAITING, '', '' },
    }) do
      if not redis.acl_check_cmd(unpack(cmd)) then call(unpack(cmd)) end -- refused in Redis's own words
    end
  end
  if grow then
    call('SET', LOCK, '', 'PX', '1', s.owner and 'NX' or 'XX')
  else
    call('HDEL', WAITING, '')
  end
end

-- tell publishes the new owner (if any) to KeySmith's processes, what news there is, and the bells. Some of
-- those are believed, so nothing goes out before all may.
local function tell(owner, news)
  local out = {}
  if owner then out[1] = { LOCKNOTIF, owner } end
  out[#out + 1] = news
  for _, bell in ipairs(bells) do out[#out + 1] = bell end
  if redis.acl_check_cmd then
    for _, message in ipairs(out) do
      if not redis.acl_check_cmd('PUBLISH', message[1], '') then call('PUBLISH', unpack(message)) end
    end
  end
  for _, message in ipairs(out) do call('PUBLISH', unpack(message)) end
end

local function in_chunks(cmd, key, items)
  for from = 1, #items, 1000 do
    call(cmd, key, unpack(items, from, math.min(from + 999, #items)))
  end
end

-- settle takes the drops out of the line and writes the marks.
local function settle()
  if #drops > REBUILD then
    local leaving, kept = {}, {}
    for _, token in ipairs(drops) do leaving[token] = true end
    for _, token in ipairs(call('LRANGE', QUEUE, 0, -1)) do
      if not leaving[token] then kept[#kept + 1] = token end
    end
    in_chunks('HDEL', WAITING, drops)
    call('DEL', QUEUE)
    in_chunks('RPUSH', QUEUE, kept)
  else
    for _, token in ipairs(drops) do
      call('HDEL', WAITING, token)
      call('LREM', QUEUE, 1, token) -- it is there once, and mostly near the front
    end
  end
  for _, mark in ipairs(marks) do call('HSET', WAITING, mark[1], mark[2]) end
end

-- put_back gives one who has lost what he was handed his place at the front again.
local function put_back(token, place)
  lined = true
  call('LPUSH', QUEUE, token)
  call('HSET', WAITING, token, place)
end

-- restore puts one who did not claim his hand-off back at the front, marked, and writes down that his
-- instance is suspect: one claim window per frozen proxy, not one per waiter of it. Suspicion that is
-- older than the places it is about is forgotten.
local function restore(s)
  if s.lapsed then put_back(s.tok, s.by.id .. '|!' .. int(s.now)) end
  if not s.lapsed and not s.absolved then return end
  local list = {}
  for instance, since in pairs(s.suspects) do
    if s.now - since <= GRACE then list[#list + 1] = instance .. '@' .. int(since) end
  end
  if #list > 0 then
    call('HSET', FENCE, 'x', table.concat(list, ' '))
    call('PEXPIRE', FENCE, int(math.max(s.kept, LOCKTTL + DAY + SLACK)))
  else
    call('HDEL', FENCE, 'x')
  end
end

-- refresh lets the line live on; one that nobody has met or entered needs nothing.
local function refresh()
  if not lined then return end
  call('PEXPIRE', QUEUE, QUEUETTL)
  call('PEXPIRE', WAITING, QUEUETTL)
end

-- record writes who has the lock. fence and own are nil when the lock is only handed over.
local function record(token, place, st, lease, fence, own)
  if fence then
    call('HSET', FENCE, 'n', int(fence), 'tok', token, 'att', place, 'st', st, 'own', own)
  else
    call('HSET', FENCE, 'tok', token, 'att', place, 'st', st)
  end
  call('PEXPIRE', FENCE, fence_ttl(lease))
end

local function forget_record() call('HDEL', FENCE, 'tok', 'att', 'st', 'own') end

-- pass_on writes the end of a hold: p owns the lock next, provisionally, or nobody does. If p's proxy
-- does not claim it, the asking one will have to see to it that the line goes on.
local function pass_on(s, p)
  if p then drops[#drops + 1] = p.token end
  if p and p.instance and p.instance ~= INSTANCE then rings[#rings + 1] = '0' end
  settle()
  if p then
    local lease = p.instance and CLAIM or tonumber(LOCKTTL)
    call('SET', LOCK, p.token, 'PX', int(lease))
    record(p.token, p.id, p.instance and 'p' or 'f', lease)
  else
    call('DEL', LOCK)
    forget_record()
  end
  if s.watching then call('HDEL', FENCE, 'w') end
  restore(s)
  refresh()
end

-- run answers with Redis's own error where there is one.
local function run(operation)
  local ok, reply = pcall(operation)
  if failure then return failure end
  if not ok then error(reply, 0) end
  return reply
end
