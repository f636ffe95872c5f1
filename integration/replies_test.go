package integration

import (
	"fmt"
	"strings"
	"testing"
)

func TestRepliesPassUnchangedWhateverTheirType(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		p := startPair(t, v)
		p.checkThoroughly(t, replyTypes())
		p.checkThoroughly(t, luaReplies())
		p.checkThoroughly(t, bigReplies())
		p.checkThoroughly(t, pushesAndArrays())
	})
}

// replyTypes: DEBUG PROTOCOL sends one reply of each type there is.
func replyTypes() []scenario {
	var all []scenario
	for _, kind := range []string{
		"string", "integer", "double", "null", "array", "set", "map", "attrib", "push",
		"verbatim", "true", "false", "bignum", "nosuchtype",
	} {
		debug := "DEBUG PROTOCOL " + kind
		all = append(all, inBoth("a reply of type "+kind, lines(debug, "PING", debug, debug, "PING"))...)
		all = append(all, inBoth("a reply of type "+kind+" inside EXEC",
			lines("MULTI", debug, "PING", debug, "EXEC", "PING"))...)
	}
	for name, data := range map[string]string{
		"nil replies": lines("GET none", "MGET none none", "HGET none f", "ZRANK none m", "LPOP none", "LPOP none 2",
			"SPOP none", "GETDEL none", "ZSCORE none m", "RANDOMKEY", "OBJECT ENCODING none"),
		"empty aggregates": lines("LRANGE none 0 -1", "HGETALL none", "SMEMBERS none", "ZRANGE none 0 -1", "KEYS none*",
			"XRANGE none - +", "CONFIG GET nosuch", "PUBSUB CHANNELS none*"),
		"doubles": lines("ZADD z 1.5 a 2 b inf c -inf d 3.0000000000000004 e", "ZSCORE z a", "ZSCORE z c", "ZMSCORE z a x b d",
			"ZRANGE z 0 -1 WITHSCORES", "ZINCRBY z 1.1 a", "ZADD z INCR 1 b", "ZPOPMIN z 2", "INCRBYFLOAT f 3.3", "GEOADD g 13.361389 38.115556 P", "GEOPOS g P none"),
		"maps and sets": lines("HSET h a 1 b 2", "HGETALL h", "HRANDFIELD h 0", "SADD s 1 2 3", "SMEMBERS s", "CONFIG GET maxmemory-policy",
			"XADD x 1-1 f v", "XADD x 2-1 f v g w", "XRANGE x - +", "XREAD STREAMS x 0", "XINFO STREAM x", "MEMORY DOCTOR"),
		"consumer groups": lines("XADD x 1-1 f v", "XGROUP CREATE x g 0", "XREADGROUP GROUP g c STREAMS x >", "XPENDING x g", "XREADGROUP GROUP g c STREAMS x >", "XACK x g 1-1"),
		"booleans, big numbers and verbatim strings": lines("DEBUG PROTOCOL true", "DEBUG PROTOCOL bignum", "DEBUG PROTOCOL verbatim", "LATENCY DOCTOR"),
		"HELLO in all versions":                      lines("HELLO", "HELLO 3", "HELLO 2", "HELLO 4", "HELLO 1", "HELLO x", "HELLO 3 SETNAME me", "CLIENT GETNAME", "HELLO 3 SETNAME", "HELLO 3 NOSUCH", "HELLO 2 SETNAME x", "GET none", "HELLO 3", "GET none"),
		"error replies": lines("LPUSH l a", "GET l", "EVALSHA ffffffffffffffffffffffffffffffffffffffff 0", "DEBUG ERROR", "DEBUG ERROR x", "SELECT 99", "SELECT x",
			"XADD x 0-0 a b", "CLIENT KILL ID x", "CONFIG SET nosuch 1", "RESTORE k 0 x", "MIGRATE"),
		"status replies with any text":         lines("SET k v", "TYPE k", "TYPE none", "CLIENT SETNAME x", "RENAME k k2", "FLUSHDB"),
		"an integer at both ends of its range": lines("SET i 9223372036854775807", "INCR i", "DECRBY i 1", "SET i -9223372036854775808", "DECR i", "INCRBY i 5"),
	} {
		all = append(all, inBoth(name, data)...)
	}
	return all
}

func luaReplies() []scenario {
	eval := func(script string, args ...string) string {
		return command(append([]string{"EVAL", script}, args...)...)
	}
	deep := "local t = {} for i = 1, 60 do t = {t, i} end return t"
	all := map[string]string{
		"scripts of all reply kinds": eval("return 1", "0") + eval("return 'x'", "0") + eval("return {1,{2,{3,'x'}},false,true}", "0") +
			eval("return nil", "0") + eval("return {ok='fine'}", "0") + eval("return {err='ERR bad'}", "0") + eval("return 3.99", "0") + eval("return {}", "0"),
		"scripts in RESP3 mode": eval("redis.setresp(3) return redis.call('HGETALL', KEYS[1])", "1", "h") +
			eval("redis.setresp(3) return {double=3.5}", "0") + eval("return {double=3.5}", "0") + eval("return {map={a=1}}", "0") +
			eval("return {set={a=true}}", "0") + eval("redis.setresp(3) return true", "0") + eval("return {big_number='123'}", "0") +
			eval("redis.setresp(3) return redis.call('SMEMBERS', 'none')", "0") + eval("return {verbatim_string={string='x', format='txt'}}", "0"),
		"scripts that fail":    eval("return redis.call('nosuch')", "0") + eval("return redis.pcall('GET')", "0") + eval("error('x')", "0") + eval("syntax error here", "0") + eval("return redis.call('LPUSH', 'k')", "0") + eval("return 1", "x") + eval("return 1", "-1") + eval("return 1", "5"),
		"deeply nested arrays": eval(deep, "0"),
		"scripts by their hash": lines("SCRIPT LOAD 'return 1'", "SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db x", "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0", "EVALSHA_RO e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0",
			"SCRIPT FLUSH", "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0", "SCRIPT KILL", "SCRIPT HELP"),
		"scripts cannot change the connection": eval("return redis.call('SELECT', 3)", "0") + eval("return redis.pcall('SUBSCRIBE', 'a')", "0") + eval("return redis.pcall('MULTI')", "0") +
			eval("return redis.pcall('CLIENT', 'REPLY', 'OFF')", "0") + eval("return redis.pcall('HELLO', '3')", "0") + eval("return redis.pcall('RESET')", "0") + lines("SET k v", "GET k", "PING"),
		"KS commands cannot be called from scripts": eval("return redis.pcall('KS.HELP')", "0") + eval("return redis.call('KS.LOCK', 'x')", "0"),
		"functions": command("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function(k, a) return {k, a, 1} end)\nredis.register_function{function_name='ro', callback=function() return redis.error_reply('no') end, flags={'no-writes'}}") +
			lines("FCALL f 1 k a b", "FCALL_RO ro 0", "FCALL_RO f 0", "FCALL nosuch 0", "FUNCTION STATS", "FUNCTION DELETE lib", "FCALL f 0"),
		"the list of functions":        command("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function(k, a) return 1 end)") + lines("FUNCTION LIST WITHCODE", "FUNCTION DUMP"),
		"read-only scripts":            lines("EVAL_RO 'return redis.call(\"SET\",\"k\",\"v\")' 0", "EVAL_RO 'return 1' 0"),
		"scripts that publish":         lines("SUBSCRIBE a") + eval("return redis.call('PUBLISH', 'a', 'x')", "0") + lines("PING"),
		"a script with an empty reply": eval("", "0") + eval("return {false}", "0"),
	}
	var scenarios []scenario
	for name, data := range all {
		scenarios = append(scenarios, inBoth(name, data)...)
	}
	return scenarios
}

func bigReplies() []scenario {
	fill := "for i = 1, tonumber(ARGV[1]) do redis.call('RPUSH', 'l', i) redis.call('ZADD', 'z', i, i) redis.call('XADD', 'x', i .. '-1', 'f', i) end"
	filled := command("EVAL", fill, "3", "l", "z", "x", "5000")
	value := command("SET", "k", strings.Repeat("0123456789abcdef\r\n", 30000))
	var all []scenario
	for name, data := range map[string]string{
		"a reply of 5000 elements":                   filled + lines("LRANGE l 0 -1", "PING", "ZRANGE z 0 -1 WITHSCORES", "XRANGE x - +", "PING"),
		"a reply of 500 KB":                          value + lines("GET k", "PING", "GET k", "GETRANGE k 0 70000", "MGET k k none k", "PING"),
		"a thousand replies in one go":               strings.Repeat(lines("PING", "ECHO x", "GET none", "INCR n", "MGET n none"), 200),
		"a transaction of a thousand commands":       lines("MULTI") + strings.Repeat(lines("INCR n", "GET none"), 500) + lines("EXEC", "PING"),
		"many small replies behind one of 500 KB":    value + lines("GET k") + strings.Repeat(lines("PING"), 3000),
		"an array of arrays of thousands of strings": filled + command("EVAL", "local r = {} for i = 1, 50 do r[i] = redis.call('LRANGE', 'l', 0, 200) end return r", "1", "l") + lines("PING"),
		"a value of each length around buffer sizes": aroundPowersOfTwo(),
	} {
		all = append(all, inBoth(name, data)...)
	}
	return all
}

// aroundPowersOfTwo echoes values whose replies end just before, at and behind
// the end of a buffer.
func aroundPowersOfTwo() string {
	var b strings.Builder
	for power := 6; power <= 17; power++ {
		for off := -12; off <= 4; off += 2 {
			b.WriteString(command("ECHO", strings.Repeat("e", 1<<power+off)))
		}
	}
	return b.String()
}

// pushesAndArrays: a push may stand before, behind and inside replies.
func pushesAndArrays() []scenario {
	publishing := lines("MULTI", "PUBLISH a x", "PUBLISH a y", "PING", "EXEC", "PING")
	nested := []scenario{
		single("messages to oneself outside of replies", lines("HELLO 3", "SUBSCRIBE a", "PUBLISH a x", "PING", "PUBLISH a y", "PUBLISH b z")),
		single("messages to oneself inside EXEC", lines("HELLO 3", "SUBSCRIBE a")+publishing),
		single("messages to oneself by two ways inside EXEC", lines("HELLO 3", "SUBSCRIBE a", "PSUBSCRIBE a*")+publishing),
		single("subscribing inside MULTI", lines("HELLO 3", "MULTI", "SUBSCRIBE a", "PING", "EXEC", "PING", "PUBLISH a x")),
		single("subscribing inside MULTI in RESP2", lines("MULTI", "SUBSCRIBE a", "EXEC", "PING")),
		single("unsubscribing inside MULTI", lines("HELLO 3", "SUBSCRIBE a", "MULTI", "UNSUBSCRIBE a", "PUBLISH a x", "EXEC", "PING")),
		single("a sharded message inside EXEC", lines("HELLO 3", "SSUBSCRIBE a", "MULTI", "SPUBLISH a x", "PING", "EXEC", "PING")),
		single("attributes inside EXEC", lines("HELLO 3", "MULTI", "DEBUG PROTOCOL attrib", "EXEC", "PING")),
		single("pushes of no known kind inside EXEC", lines("HELLO 3", "MULTI", "DEBUG PROTOCOL push", "PING", "EXEC", "PING")),
		single("a message whose payload looks like a reply", lines("HELLO 3", "SUBSCRIBE a")+command("PUBLISH", "a", "\r\n+OK\r\n*1\r\n")+lines("PING")),
	}
	for i, sc := range countless() {
		sc.name = fmt.Sprintf("%s (%d)", sc.name, i)
		sc.pipes = "Redis answers EXEC with other than the number of elements it announces"
		nested = append(nested, sc)
	}
	return nested
}

// countless are transactions whose reply Redis itself gets wrong.
func countless() []scenario {
	return []scenario{
		single("subscribing to two channels inside MULTI", lines("HELLO 3", "MULTI", "SUBSCRIBE a b", "PING", "EXEC", "PING", "PUBLISH a x", "PING")),
		single("subscribing to two channels inside MULTI in RESP2", lines("MULTI", "SUBSCRIBE a b", "EXEC", "PING", "UNSUBSCRIBE", "PING")),
		single("unsubscribing from all inside MULTI", lines("HELLO 3", "SUBSCRIBE a b", "MULTI", "UNSUBSCRIBE", "PING", "EXEC", "PING")),
		single("CLIENT REPLY OFF inside MULTI", lines("MULTI", "PING", "CLIENT REPLY OFF", "PING 2", "EXEC", "PING 3", "CLIENT REPLY ON", "PING 4")),
		single("CLIENT REPLY SKIP inside MULTI", lines("MULTI", "CLIENT REPLY SKIP", "PING 1", "EXEC", "PING 2", "PING 3")),
		single("CLIENT REPLY SKIP at the end of MULTI", lines("MULTI", "PING 1", "CLIENT REPLY SKIP", "EXEC", "PING 2", "PING 3")),
		single("CLIENT REPLY OFF and ON inside MULTI", lines("MULTI", "CLIENT REPLY OFF", "PING 1", "CLIENT REPLY ON", "PING 2", "EXEC", "PING 3")),
		single("HELLO 3 inside MULTI", lines("MULTI", "HELLO 3", "GET none", "EXEC", "GET none", "PING")),
		single("HELLO 2 inside MULTI", lines("HELLO 3", "MULTI", "GET none", "HELLO 2", "GET none", "EXEC", "GET none")),
		single("RESET inside MULTI", lines("MULTI", "SET k v", "RESET", "EXEC", "GET k")),
		single("MONITOR inside MULTI", lines("MULTI", "MONITOR", "PING", "EXEC", "PING")),
		single("QUIT inside MULTI", lines("MULTI", "SET k v", "QUIT", "EXEC", "PING")),
		single("blocking commands inside MULTI", lines("MULTI", "BLPOP none 0", "BRPOPLPUSH none b 0", "WAIT 1 0", "XREAD BLOCK 0 STREAMS x $", "EXEC", "PING")),
	}
}
