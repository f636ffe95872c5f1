-- ask_lock.lua: KS.LOCK asks for the lock. KEYS, ARGV, returns: line.lua, ask.lua.

return run(function() return ask(read(), 'l') end)
