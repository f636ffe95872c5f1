-- short_ask.lua: the short ways of ask_lock: a free lock is taken, one that is held is waited for at the end
-- of its line. KEYS, ARGV, returns: line.lua, ask.lua.

do
  local call = short.call
  local LOCK, QUEUE, WAITING, FENCE, TOKEN = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[7]
  local place = 'l:' .. ARGV[3] .. ':' .. ARGV[8]
  local owner = call('GET', LOCK)
  local nobody = owner == false and call('EXISTS', QUEUE, WAITING) == 0
  local stands = type(owner) == 'string' and owner ~= TOKEN and call('HGET', WAITING, TOKEN) == false
  local f = (nobody or stands) and call('HMGET', FENCE, 'n', 'st', 'x', 'w', 'tok')
  local last = f and not f.err and not f[3] and tonumber(f[1] or '0')
  if last and stands and f[2] == 'h' and f[5] == owner then
    if ARGV[11] == '1' then return { 'no', {} } end
    local left = call('PTTL', LOCK)
    if type(left) == 'number' and short.writes() then
      local length = call('RPUSH', QUEUE, TOKEN)
      if type(length) == 'number' then
        call('HSET', WAITING, TOKEN, place)
        call('PEXPIRE', QUEUE, 60000)
        call('PEXPIRE', WAITING, 60000)
        return { 'wait', left, length == 1 and 1 or 0, 0, length, string.format('%.0f', last), {} }
      end
    end
  elseif last and nobody and f[2] ~= 'p' and not f[4] then
    local us = short.clock()
    local fence = short.fence(last, us, ARGV[12])
    if fence and short.writes() and short.may('PUBLISH', ARGV[5], '') then
      local set = call('SET', LOCK, TOKEN, 'PX', ARGV[10])
      if type(set) == 'table' and not set.err then
        short.grant(TOKEN, ARGV[10], place, ARGV[13], fence, last, us)
        return { 'granted', fence, {} }
      end
    end
  end
end
