-- leave.lua: calls of this proxy that ended without the lock go: out of the line, and if the lock was
-- granted to one meanwhile it is handed on. Only what the very attempt has got is touched: a later
-- call with the same token keeps its place and its lock. A lock that was handed to a proxy which did not
-- claim it goes to the next. Runs on the proxy's own connection, which has
-- database 0 selected; SELECT in a script ends with it.
--
-- ARGV  7 1: also give back what was claimed (0 for a bell that nobody here waits for: it may be
--       older than the claim)
--       8.. token, seq of the attempt, 1: keep the place for a while, 2: it was kept long enough, 0; token,
--       seq, ...
-- Returns {left, rings}: how many places or holds were given up.
-- Atomic: between the look at the attempt and the removal no one else may take over.

return run(function()
  call('SELECT', DB)
  local s = read()
  local head = call('LINDEX', QUEUE, 0)
  local gone, left, release, clear, back = {}, 0, false, false, nil
  for i = 8, #ARGV, 3 do
    local token, attempt, keep = ARGV[i], INSTANCE .. ':' .. ARGV[i + 1], ARGV[i + 2] == '1'
    local over = ARGV[i + 2] == '2'
    local entry = call('HGET', WAITING, token)
    if entry then
      local p = parse(entry)
      if p.attempt == attempt and over == p.kept and not gone[token] then
        gone[token], left = true, left + 1
        if keep then
          marks[#marks + 1] = { token, p.id .. '|~' .. int(s.now) }
        else
          drops[#drops + 1] = token
        end
      end
    elseif over then
      entry = nil -- it has been taken again, or has gone
    elseif s.tok == token and s.st ~= 'f' and s.by.attempt == attempt then
      local his = s.owner == token and (s.st == 'p' or ARGV[7] == '1')
      clear, release = s.lapsed, release or his
      if keep and (clear or his) then back = s.by.id .. '|~' .. int(s.now) end
    elseif s.owner == token and s.tok ~= token and ARGV[7] == '1' then
      release = true -- a KeySmith process handed it over, and nobody of ours has claimed it
    end
  end
  if #ARGV < 8 and s.st == 'p' and s.owner == s.tok then return { 0, { '0' } } end -- too early a look
  local lapsed = s.lapsed and not s.owner and not clear
  if left == 0 and not release and not clear and not lapsed then return { 0, rings } end

  local owner, second
  local free = release or lapsed
  if free or (head and gone[head]) then
    owner, second = pick(s, walk(), nil, gone)
    ring(owner, owner and owner.token)
  end
  if second and (free or not owner.instance) then ring(second, second.token) end
  if free then ended(s) end
  guard(s, false)
  tell(free and owner and owner.token)
  if clear then s.lapsed = false end
  if free then
    pass_on(s, owner)
  else
    settle()
    if clear or s.lapsed then forget_record() end -- restore puts him back once
    restore(s)
  end
  if back then
    put_back(s.tok, back)
    refresh()
  end
  if release or clear then left = left + 1 end
  return { left, rings }
end)
