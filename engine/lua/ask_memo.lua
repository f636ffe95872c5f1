-- ask_memo.lua: KS.MEMO asks for the value, or for the promise to make it.
--
-- KEYS  5 value   6 error: <o|m> <fence of the promise it was> <message>; m is for everyone, o (once)
--       for those who were waiting for that promise, or for it to be made
--       7 stale copy of the value (value.lua)
-- ARGV  as ask.lua   14 since when the caller waits (line.lua), empty if he has not waited yet
-- Returns {value, v, rings} | {rejected, message, rings} | {stale, v, rings}: its TTL has ended, and another
-- is making the next, else as ask.lua: granted is the promise.
-- Atomic: who is told "wait" or "granted" is so because there is no value, and one who finds the
-- value leaves the line, or hands on what he was handed for it, in the same step.

-- rejection is the message for this caller, if there is one.
local function rejection()
  local kind, fence, message = string.match(call('GET', KEYS[6]) or '', '^(%a) (%d+) (.*)$')
  if kind == 'm' then return message end
  local since = tonumber(ARGV[14])
  if kind == 'o' and since and since <= tonumber(fence) then return message end
end

-- served takes the caller out of the line, or hands on what he was handed.
local function served(s)
  local token, attempt, first = ARGV[7], INSTANCE .. ':' .. ARGV[8], ARGV[9] == '1'
  local entry = call('HGET', WAITING, token)
  local place = entry and parse(entry)
  if place and (place.attempt == attempt or first) then
    local head = call('LINDEX', QUEUE, 0)
    drops[1] = token
    if head == token then
      local p = pick(s, walk(), nil, { [token] = true })
      ring(p, p and p.token)
    end
    if place.attempt ~= attempt then ring(place, token) end
    guard(s, false)
    tell()
    settle()
  elseif s.tok == token and s.st == 'p' and (s.by.attempt == attempt or first) then
    if s.by.attempt ~= attempt then ring(s.by, token) end
    if s.lapsed then
      s.lapsed = false
      guard(s, false)
      tell()
      forget_record()
    else
      local owner, head = pick(s, walk())
      ring(owner, owner and owner.token)
      ring(head, head and head.token)
      ended(s)
      guard(s, false)
      tell(owner and owner.token)
      pass_on(s, owner)
    end
  end
end

-- last returns the value whose TTL has ended, if it may still be served, and whether there is a copy of one that
-- was deleted before.
local function last(s)
  local copy = call('GET', KEYS[7]) or ''
  local least, most, at = string.match(copy, '^(%d+) (%d+) ()')
  if not at then return nil, false end
  if s.now >= tonumber(most) then return string.sub(copy, at), false end
  return nil, s.now < tonumber(least)
end

-- unless_his answers with the stale value, unless it is the caller's turn to make the next.
local function unless_his(s, stale)
  local token = ARGV[7]
  if s.owner and s.owner ~= token then
    served(s)
    return { 'stale', stale, rings }
  end
  local stands = call('HGET', WAITING, token)
  local reply = ask(s, 'm', not stands)
  if reply[1] == 'no' then return { 'stale', stale, rings } end
  return reply
end

return run(function()
  local s = read()
  local value = call('GET', KEYS[5])
  local message = not value and rejection()
  if not value and not message then
    local stale, deleted = last(s)
    if stale then return unless_his(s, stale) end
    local reply = ask(s, 'm')
    if deleted then call('DEL', KEYS[7]) end
    return reply
  end
  served(s)
  if value then return { 'value', value, rings } end
  return { 'rejected', message, rings }
end)
