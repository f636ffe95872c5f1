-- confirm.lua: KS.MLOCK has all its locks, and their leases begin, all at the same moment.
--
-- KEYS  four for each name, as in line.lua
-- ARGV  1 to 6 as in line.lua, of the first name   7 token   8 lease in ms   9 who asks (line.lua, own)
--       10.. for each name: seq of the attempt that has it, name
-- Returns {1, rings, fence, rings, fence, ...} in the order of the names, or {0, {}} when one is not held
-- any more; then nothing was changed.
-- Atomic: at no moment are only some of the leases those that were asked for.

-- turn_to makes the ith name the one that line.lua works on.
local function turn_to(i)
  LOCK, QUEUE, WAITING, FENCE = KEYS[4 * i - 3], KEYS[4 * i - 2], KEYS[4 * i - 1], KEYS[4 * i]
  NAME = ARGV[9 + 2 * i]
end

return run(function()
  local token, lease = ARGV[7], tonumber(ARGV[8])
  local states, told = {}, {}
  for i = 1, #KEYS / 4 do
    turn_to(i)
    local s = read()
    if s.owner ~= token or s.tok ~= token or s.st ~= 'h' or s.by.attempt ~= INSTANCE .. ':' .. ARGV[8 + 2 * i] then
      return { 0, {} }
    end
    rings = {}
    if call('PTTL', LOCK) > lease then -- the first in line, and who waits for the end, believe in the longer one
      local head = pick(s, walk())
      ring(head, head and head.token)
      ended(s)
      drops, marks, lined = {}, {}, false -- of this name only; to mark them is for who asks
    end
    states[i], told[i] = s, rings
  end
  for i = 1, #states do
    turn_to(i)
    guard(states[i], false)
  end
  tell()
  local reply = { 1 }
  for i, s in ipairs(states) do
    turn_to(i)
    call('PEXPIRE', LOCK, int(lease))
    record(token, s.att, 'h', lease, s.n, ARGV[9])
    reply[2 * i], reply[2 * i + 1] = told[i], int(s.n)
  end
  return reply
end)
