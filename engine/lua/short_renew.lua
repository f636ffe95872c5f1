-- short_renew.lua: the short way of renew: the lock is still the attempt's. KEYS, ARGV, returns: line.lua,
-- renew.lua.

do
  local call = short.call
  local LOCK, FENCE, TOKEN, LEASE = KEYS[1], KEYS[4], ARGV[7], ARGV[9]
  call('SELECT', ARGV[2])
  local f = call('GET', LOCK) == TOKEN and call('HMGET', FENCE, 'tok', 'att', 'own')
  if f and not f.err and f[1] == TOKEN and string.sub(f[2] or '', 2) == ':' .. ARGV[3] .. ':' .. ARGV[8]
    and string.sub(f[3] or '', 1, 1) == 's' then
    local left = call('PTTL', LOCK)
    if type(left) == 'number' and (left >= tonumber(LEASE) or call('PEXPIRE', LOCK, LEASE) == 1)
      and call('PEXPIRE', FENCE, string.format('%.0f', LEASE + 93600000)) == 1 then
      return 1
    end
  end
end
