-- short_release.lua: the short ways of release: nobody waits, or the first in line waits on the asking proxy,
-- which says so: then the lock is his at once, with all of his lease, and no ask of his has to claim it.
-- KEYS, ARGV, returns: line.lua, release.lua.

do
  local call, may = short.call, short.may
  local LOCK, QUEUE, WAITING, FENCE, TOKEN, INSTANCE = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[7], ARGV[3]
  local f = call('GET', LOCK) == TOKEN and call('HMGET', FENCE, 'n', 'st', 'x', 'w', 'tok', 'own', 'att')
  local last = f and not f.err and f[2] == 'h' and f[5] == TOKEN and not f[3] and not f[4] and tonumber(f[1] or '')
  -- a connection of another proxy that holds the lock has to be told (line.lua, dismiss)
  if last and (string.sub(f[6] or '', 1, 1) == 'l' or string.find(f[7] or '', ':' .. INSTANCE .. ':', 1, true)) then
    local next, seq = ARGV[8], ARGV[9]
    if call('EXISTS', QUEUE, WAITING) == 0 then
      if call('DEL', LOCK) == 1 then
        call('HDEL', FENCE, 'tok', 'att', 'st', 'own') -- if it is refused: a record without the lock is of a hold that ran out
        return { 1, {} }
      end
    elseif next and next ~= '' then
      local line = call('LRANGE', QUEUE, 0, 1)
      local head = line[2]
      local places = line[1] == next and head ~= next and call('HMGET', WAITING, next, head or next)
      local place = 'l:' .. INSTANCE .. ':' .. seq
      if places and places[1] == place then
        local instance, number = string.match(head and places[2] or '', '^%a:(%w+):(%d+)$')
        local inbox = instance and instance ~= INSTANCE and 'ks/inbox:' .. instance
        local us = short.clock()
        local fence = short.fence(last, us, ARGV[12])
        if fence and (instance or not head)
          and (not inbox or (call('PUBSUB', 'NUMSUB', inbox)[2] or 0) ~= 0 and may('PUBLISH', inbox, ''))
          and short.writes() and may('PUBLISH', ARGV[5], '') and call('HDEL', WAITING, next) == 1 then
          call('LREM', QUEUE, 1, next)
          call('SET', LOCK, next, 'PX', ARGV[10])
          short.grant(next, ARGV[10], place, ARGV[11], fence, last, us)
          if inbox then
            call('PUBLISH', inbox, 'r ' .. ARGV[2] .. ' ' .. number .. ' ' .. #head .. ' ' .. head .. ARGV[4])
            number = nil
          end
          return { 1, {}, fence, number and { number .. ' ' .. head } or {} }
        end
      end
    end
  end
end
