-- ask_memo.lua: KS.MEMO asks for the value, or for the promise to make it.
--
-- KEYS  5 value   ARGV as ask.lua
-- Returns {value, v, rings}, else as ask.lua: granted is the promise.
-- Atomic: who is told "wait" or "granted" is so because there is no value, and one who finds the
-- value leaves the line, or hands on what he was handed for it, in the same step.

return run(function()
  local s = read()
  local value = call('GET', KEYS[5])
  if not value then return ask(s, 'm') end

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
      guard(s, false)
      tell(owner and owner.token)
      pass_on(s, owner)
    end
  end
  return { 'value', value, rings }
end)
