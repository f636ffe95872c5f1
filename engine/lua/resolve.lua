-- resolve.lua: KS.RESOLVE stores the value, tells everyone who waits for it, and gives the promise back:
-- to the next KS.LOCK caller in line, for the KS.MEMO callers are served and leave it.
--
-- KEYS  5 value
-- ARGV  7 token   8 value   9 its TTL in ms, empty for none   10 notif channel
--       11 largest value for the notif channel: Redis cuts off subscribers that lag behind by 32 MB
--       12 TTL in ms up to which, and 13 size up to which, the bell carries the value, because it may
--       be gone before anyone looks
-- Returns {1, rings, 1 if KS.MEMO callers of the asking instance waited}, or {0, rings, 0} when the
-- token does not hold the promise.
-- Atomic: a value is stored only while its promise stands, and nobody is promoted beside it.

local function ready(instance, value)
  bells[#bells + 1] = { 'ks/inbox:' .. instance,
    'v ' .. DB .. ' ' .. #NAME .. ' ' .. (value and '1' or '0') .. ' ' .. NAME .. (value or '') }
end

return run(function()
  local token, value, ttl = ARGV[7], ARGV[8], ARGV[9]
  local s = read()
  if s.owner ~= token or (s.tok == token and s.by.kind == 'l') then return { 0, rings, 0 } end
  call('GET', KEYS[5])
  if s.by.kind == 'm' then s.lapsed = false end -- he finds the value when he asks

  local others, instances = {}, {}
  for waiter, place in walk() do
    local p = place and parse(place)
    if p and p.kind == 'm' then
      drops[#drops + 1] = waiter
      instances[p.instance] = true
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

  local brief = ttl ~= '' and tonumber(ttl) <= tonumber(ARGV[12]) and #value <= tonumber(ARGV[13])
  local mine = instances[INSTANCE] and 1 or 0
  instances[INSTANCE] = nil
  for instance in pairs(instances) do ready(instance, brief and value) end

  guard(s, true)
  tell(owner and owner.token)
  if #value <= tonumber(ARGV[11]) then call('PUBLISH', ARGV[10], value) end
  if ttl == '' then
    call('SET', KEYS[5], value)
  else
    call('SET', KEYS[5], value, 'PX', ttl)
  end
  pass_on(s, owner)
  return { 1, rings, mine }
end)
