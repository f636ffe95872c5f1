-- resolve.lua: KS.RESOLVE stores the value, tells everyone who waits for it, and gives the promise back.
--
-- KEYS  5 value   6 error   7 stale copy (value.lua)
-- ARGV  7 token   8 value   9 its TTL in ms, empty for none   10 notif channel
--       11 largest value for the notif channel: Redis cuts off subscribers that lag behind by 32 MB
--       12 TTL in ms up to which, and 13 size up to which, the bell carries the value, because it may
--       be gone before anyone looks   14 ms for which the value is served after its TTL has ended, empty: not at all
-- Returns {1, rings, 1 if KS.MEMO callers of the asking instance waited}, or {0, rings, 0} when the
-- token does not hold the promise.
-- Atomic: a value is stored only while its promise stands, and nobody is promoted beside it.

-- copy_of is the stale copy. Some Redises reckon a TTL from the time at which a script began, or was being sent.
local function copy_of(s, value, ttl)
  local early = math.min(20 + #value / 500000, ttl / 2)
  return int(math.floor(s.now + ttl - early)) .. ' ' .. int(math.floor(clock() / 1000) + ttl + 1) .. ' ' .. value
end

return run(function()
  local token, value, ttl = ARGV[7], ARGV[8], ARGV[9]
  local s = read()
  if not promised(s, token) then return { 0, rings, 0 } end
  call('GET', KEYS[5])
  call('GET', KEYS[6])
  call('GET', KEYS[7])
  local owner, instances = strike(s)
  local brief = ttl ~= '' and tonumber(ttl) <= tonumber(ARGV[12]) and #value <= tonumber(ARGV[13])
  local mine = announce(instances,
    'v ' .. DB .. ' ' .. #NAME .. ' ' .. (brief and since(s) or '0') .. ' ' .. NAME .. (brief and value or ''))
  dismiss(s)
  ended(s)

  guard(s, true)
  tell(owner and owner.token, #value <= tonumber(ARGV[11]) and { ARGV[10], value } or nil)
  if ttl == '' then
    call('SET', KEYS[5], value)
  else
    call('SET', KEYS[5], value, 'PX', ttl)
  end
  local copy = ARGV[14] ~= '' and copy_of(s, value, tonumber(ttl)) -- a large value takes its time: it ends before this
  call('DEL', KEYS[6], KEYS[7])
  if copy then call('SET', KEYS[7], copy, 'PX', int(tonumber(ttl) + tonumber(ARGV[14]))) end
  pass_on(s, owner)
  dismissed(s)
  return { 1, rings, mine }
end)
