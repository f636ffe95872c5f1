-- answer.lua: what KS.RESOLVE and KS.REJECT share: all who wait for the promise are answered and leave
-- the line, and the lock goes to the next KS.LOCK caller.

-- promised: the token holds the promise. A lock that KS.LOCK took is none; nor is what was handed over: who has
-- not claimed it has not been told that it is his, so what comes with his token is of an earlier promise.
local function promised(s, token)
  return s.owner == token and not (s.tok == token and (s.by.kind == 'l' or s.st == 'p'))
end

-- strike takes all KS.MEMO callers out of the line. Returns who of the others is next, who then is first,
-- and the set of instances that had one.
local function strike(s)
  if s.by.kind == 'm' then s.lapsed = false end -- he finds the answer when he asks
  call('HGET', WAITING, '') -- of the right type, though the line may be empty
  local others, instances = {}, {}
  for waiter, place in walk() do
    local p = place and parse(place)
    if p and p.kind == 'm' then
      drops[#drops + 1] = waiter
      instances[p.instance] = true
    elseif p and waiter == s.owner then -- a KeySmith process's own place (release.lua)
      drops[#drops + 1] = waiter
    else
      others[#others + 1] = { waiter, place }
    end
  end
  local i = 0
  local owner, head = pick(s, function()
    i = i + 1
    if others[i] then return others[i][1], others[i][2] end
  end)
  ring(owner, owner and owner.token)
  ring(head, head and head.token)
  return owner, instances
end

-- announce sends a bell to the instances that had callers; true if the asking one had some.
local function announce(instances, bell)
  for instance in pairs(instances) do
    if instance ~= INSTANCE then bells[#bells + 1] = { 'ks/inbox:' .. instance, bell } end
  end
  return instances[INSTANCE] and 1 or 0
end
