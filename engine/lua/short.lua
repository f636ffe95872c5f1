-- short.lua: the short ways, written out for what most calls find: a lock that nobody has and nobody
-- waits for, or a line of which nobody is missing. The general ways (line.lua and what follows) build some
-- forty functions and as many tables, which cost Redis several times what its commands cost.
--
-- A short way does exactly what the general one would do there, or it has changed nothing and falls
-- through to it: at whatever is out of the ordinary, and at all that Redis may refuse, so that it is
-- refused there, in Redis's own words. What it needs is read and type-checked first, then the ACL is
-- asked, and the first write is one that raises whatever else there may be (OOM, READONLY, ...). Where
-- scripts can't ask the ACL (before Redis 7.0) there is none that could refuse only some of the writes
-- without the general way failing likewise.

local short = {
  call = redis.pcall,
  may = redis.acl_check_cmd or function() return true end,
}

-- writes reports whether the ACL allows all writes that there may be (line.lua, guard).
function short.writes()
  local may, LOCK, QUEUE, WAITING = short.may, KEYS[1], KEYS[2], KEYS[3]
  return may('SET', LOCK, '') and may('DEL', LOCK) and may('PEXPIRE', LOCK, '1') and may('HSET', WAITING, '', '')
    and may('HDEL', WAITING, '') and may('RPUSH', QUEUE, '') and may('LPUSH', QUEUE, '') and may('LREM', QUEUE, '1', '')
end

-- clock is Redis's in microseconds, or the caller's (line.lua, ARGV 1); nil if it can't be read.
function short.clock()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) * 1000 end
  local t = redis.pcall('TIME')
  return not t.err and tonumber(t[1]) * 1000000 + tonumber(t[2]) or nil
end

-- fence is the next fencing number after last, as text; nil if there is none. seen is the highest that the
-- asking proxy has seen.
function short.fence(last, us, seen)
  local n = us and math.max(last + 1, us, tonumber(seen) + 1)
  return n and n < 9007199254740992 and string.format('%.0f', n) or nil
end

-- grant writes who has the lock, as line.lua's take and record do, and lets KeySmith's processes know. Nothing
-- can be refused any more.
function short.grant(token, lease, place, own, fence, last, us)
  local call = redis.pcall
  call('HSET', KEYS[4], 'n', fence, 'tok', token, 'att', place, 'st', 'h', 'own', own)
  -- line.lua, fence_ttl: a grant within the hour of the last has nothing to add, unless it is for longer
  if last == 0 or tonumber(lease) > 3600000 or math.floor(last / 3600000000) ~= math.floor(us / 3600000000) then
    call('PEXPIRE', KEYS[4], string.format('%.0f', lease + 93600000))
  end
  call('PUBLISH', ARGV[5], token)
end
