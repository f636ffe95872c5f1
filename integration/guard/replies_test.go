package guard

import (
	"strconv"
	"strings"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// row is a command, and what the data is like when it is run.
type row struct {
	before  []string // lines of words
	command []string
}

func words(line string) []string { return strings.Fields(line) }

// after is a command in words behind others.
func after(command string, before ...string) row { return row{before, words(command)} }

// numbers returns args and as many numbers behind them.
func numbers(n int, args ...string) []string {
	for i := range n {
		args = append(args, strconv.Itoa(i))
	}
	return args
}

func rows() map[string]row {
	lua := func(script string, args ...string) row {
		return row{[]string{"HSET h a 1 b 2", "SADD s 1 2 3", "SET big 9007199254740993"}, append([]string{"EVAL", script}, args...)}
	}
	all := map[string]row{
		"empty name":    {nil, []string{""}},
		"empty key":     {nil, []string{"SET", "", ""}},
		"any bytes":     {nil, []string{"SET", "k\r\n\x00", "\r\n+OK\r\n", "GET"}},
		"spaces":        {nil, []string{"ECHO", " a\tb "}},
		"no such name":  {nil, []string{"NO\r\nSUCH", "a\nb", "c"}},
		"20000 args":    {nil, numbers(20000, "RPUSH", "l")},
		"9000 missing":  {nil, numbers(9000, "MGET")},
		"5 MB there":    {nil, []string{"SET", "k", strings.Repeat("0123456789abcde\n", 5<<16)}},
		"5 MB back":     {[]string{"SETRANGE k 5242879 x"}, words("GET k")},
		"EVAL of sorts": lua("return {1, 'x', false, {ok='fine'}, redis.call('GET', 'big')}", "0"),
		"EVAL nil":      lua("return nil", "0"),
		"EVAL map":      lua("redis.setresp(3) return redis.call('HGETALL', 'h')", "0"),
		"EVAL set":      lua("redis.setresp(3) return redis.call('SMEMBERS', 's')", "0"),
		"EVAL double":   lua("redis.setresp(3) return {double=3.0000000000000004}", "0"),
		"EVAL fails":    lua("return redis.call('INCR', 'h')", "0"),
		"EVAL no Lua":   lua("this is none", "0"),
		"EVAL writes":   lua("for i = 1, 10 do redis.call('INCR', KEYS[1]) end return redis.call('INCR', 'big')", "1", "k"),
		"FUNCTION LOAD": {nil, []string{"FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f', function(k, a) return {k, a, 1} end)"}},
	}
	for _, r := range []row{
		after("SET k v"), after("GET k"), after("GET k", "SET k v"), after("SET k v NX", "SET k w"), after("SET k v GET"),
		after("INCR k", "SET k 9007199254740992"), after("INCRBY k 1", "SET k 9223372036854775807"), after("INCRBYFLOAT k 3.3"),
		after("MGET a missing c", "MSET a 1 c 3"), after("MSET a 1 b"), after("GETDEL k", "SET k v"), after("STRLEN k"),
		after("LPOP l 2"), after("LPOP l", "RPUSH l a"), after("LRANGE none 0 -1"), after("LPOS l x"), after("LMPOP 1 l LEFT"),
		after("BLPOP l 0.01"), after("BLPOP l 0", "RPUSH l a"), after("BZPOPMIN z 0.01"),
		after("XREAD BLOCK 10 STREAMS x $"), after("WAIT 0 10"), after("BLPOP l x"),
		after("HGETALL h", "HSET h a 1 b 2"), after("HGETALL none"), after("HRANDFIELD none 2"), after("HMGET h a x", "HSET h a 1"),
		after("SMEMBERS s", "SADD s 1 2 3"), after("SMISMEMBER s 1 9", "SADD s 1"), after("SPOP none"), after("SPOP none 1"),
		after("ZADD z 1.5 a 2 b inf c -inf d"), after("ZSCORE z a", "ZADD z 3.0000000000000004 a"), after("ZSCORE z c", "ZADD z inf c"),
		after("ZMSCORE z a x", "ZADD z 1.1 a"), after("ZRANGE z 0 -1 WITHSCORES", "ZADD z 1.5 a 2 b"), after("ZADD z INCR 1.5 a"),
		after("ZPOPMIN z 2", "ZADD z 1.5 a 2 b"), after("ZRANK z x", "ZADD z 1 a"), after("ZADD z NX INCR 1 a", "ZADD z 1 a"),
		after("GEOPOS g P none", "GEOADD g 13.361389 38.115556 P"), after("GEODIST g P none", "GEOADD g 13.361389 38.115556 P"),
		after("XADD x 1-1 f v"), after("XADD x 1-1 f v", "XADD x 1-1 f v"), after("XRANGE x - +", "XADD x 1-1 f v g w", "XADD x 2-1 f v"),
		after("XREAD STREAMS x 0", "XADD x 1-1 f v"), after("XREAD STREAMS x 9", "XADD x 1-1 f v"), after("XINFO STREAM x", "XADD x 1-1 f v"),
		after("XREADGROUP GROUP g c STREAMS x >", "XADD x 1-1 f v", "XGROUP CREATE x g 0"),
		after("LCS a b IDX WITHMATCHLEN", "MSET a ohmytext b mynewtext"), after("LCS a b", "MSET a ohmytext b mynewtext"),
		after("BITFIELD k INCRBY u2 100 1 OVERFLOW FAIL", "SETBIT k 101 1", "SETBIT k 100 1"), after("SORT l BY nosort GET # GET w_*", "RPUSH l 1 2", "SET w_1 x"),
		after("PFADD p a b"), after("OBJECT ENCODING k", "SET k 12"), after("OBJECT ENCODING none"), after("OBJECT HELP"), after("TYPE k"),
		after("EXPIRE k 100", "SET k v"), after("PERSIST k", "SET k v EX 100"), after("RENAME none x"), after("COPY k l", "SET k v"), after("MOVE k 1", "SET k v"),
		after("PING"), after("PING x"), after("PING x y"), after("PUBLISH c x"), after("DBSIZE"), after("FLUSHALL"), after("SCAN 0 MATCH none*"),
		after("CONFIG GET maxmemory-policy"), after("CONFIG GET nosuch*"), after("CONFIG SET nosuch 1"), after("ACL WHOAMI"), after("ACL LIST"), after("COMMAND COUNT"),
		after("COMMAND INFO get nosuch"), after("LATENCY DOCTOR"), after("LATENCY HISTOGRAM nosuch"), after("SLOWLOG RESET"), after("SCRIPT EXISTS x"),
		after("EVALSHA ffffffffffffffffffffffffffffffffffffffff 0"), after("FCALL f 1 k a"), after("FUNCTION LIST"), after("DEBUG ERROR x"), after("SWAPDB 0 1", "SET k v"),
		after("DUMP none"), after("RESTORE k 0 x"), after("PUBSUB NUMSUB a b"), after("CLUSTER INFO"), after("ASKING"), after("READONLY"), after("LOLWUT VERSION 5 0 0 0"),

		after("nosuch"), after("nosuch a b"), after("GET"), after("GET a b"), after("SET k v XX NX"), after("SET k v EX 0"), after("INCR k", "SET k x"),
		after("GET l", "RPUSH l a"), after("LPUSH k a", "SET k v"), after("CONFIG"), after("CONFIG NOSUCH"), after("EVAL 1 x"), after("OBJECT"),

		// The lock itself may be what the command is about.
		after("GET " + key), after("DEL " + key), after("SET " + key + " other"), after("PEXPIRE " + key + " 100000"), after("RENAME " + key + " x"),
	} {
		all[strings.Join(r.command, " ")+" after "+strings.Join(r.before, ", ")] = r
	}
	for kind := range strings.FieldsSeq("string integer double null array set map attrib push verbatim true false bignum nosuchtype") {
		all["DEBUG PROTOCOL "+kind] = after("DEBUG PROTOCOL " + kind)
	}
	return all
}

// both are a Redis that is asked directly, and one that is asked through KS.GUARD.
type both struct {
	redis         [2]*harness.Redis
	direct, proxy func(testing.TB) *harness.Conn
}

func startBoth(t *testing.T, config ...string) *both {
	t.Helper()
	b := &both{redis: [2]*harness.Redis{harness.StartRedis(t, config...), harness.StartRedis(t, config...)}}
	p := harness.StartProxy(t, b.redis[1])
	b.direct, b.proxy = b.redis[0].Dial, p.Dial
	eventually(t, "the proxy to be ready", func() bool {
		c := p.Dial(t)
		defer c.Close()
		return !strings.HasPrefix(c.Do(t, "KS.STATUS", "x"), "-KSUNAVAILABLE")
	})
	return b
}

// hello opens a connection to each that speaks RESP so, and whose reply to each of lines is not looked at.
func (b *both) hello(t testing.TB, resp string, lines ...string) (direct, proxied *harness.Conn) {
	t.Helper()
	direct, proxied = b.direct(t), b.proxy(t)
	for _, c := range []*harness.Conn{direct, proxied} {
		c.Do(t, "HELLO", resp)
		for _, line := range lines {
			c.Do(t, words(line)...)
		}
	}
	return direct, proxied
}

// compare runs a row on both sides. Behind the command another shows that nothing is left over.
func (b *both) compare(t testing.TB, resp string, r row, lines ...string) {
	t.Helper()
	for _, redis := range b.redis {
		redis.Do(t, "FLUSHALL")
		redis.Do(t, "FUNCTION", "FLUSH")
		holding(t, redis)
	}
	direct, proxied := b.hello(t, resp, append(lines, r.before...)...)
	defer direct.Close()
	defer proxied.Close()
	const end = "*1\r\n$3\r\nend\r\n"
	direct.Send(t, harness.Command(r.command...)+harness.Command("EVAL", "return {'end'}", "0"))
	proxied.Send(t, harness.Command(guarded(r.command...)...)+harness.Command("EVAL", "return {'end'}", "0"))
	var got [2]string
	for i, c := range []*harness.Conn{direct, proxied} {
		for !strings.HasSuffix(got[i], end) {
			got[i] += c.Reply(t)
		}
	}
	if got[0] != got[1] {
		t.Errorf("RESP%s, %.200q:\ndirect  %.400q\nguarded %.400q", resp, r.command, got[0], got[1])
	}
	if a, b := b.digest(t, 0), b.digest(t, 1); a != b {
		t.Errorf("RESP%s, %.200q: the data differs", resp, r.command)
	}
}

// digest is that of all data, but for the proxy's own.
func (b *both) digest(t testing.TB, i int) string {
	t.Helper()
	b.redis[i].Do(t, "DEL", "ks/config:tag-split")
	c := b.redis[i].Dial(t)
	defer c.Close()
	c.Do(t, "SELECT", "1")
	c.Do(t, "DEL", "ks/config:tag-split")
	return c.Do(t, "DEBUG", "DIGEST")
}

func TestAGuardedCommandRepliesWhatItReplies(t *testing.T) {
	b := startBoth(t)
	all := rows()
	if len(all) < 100 {
		t.Fatalf("only %d rows", len(all))
	}
	for _, resp := range []string{"2", "3"} {
		for name, r := range all {
			t.Run("RESP"+resp+"/"+strings.ToValidUTF8(name, "?"), func(t *testing.T) { b.compare(t, resp, r) })
		}
	}
}

func TestAGuardedCommandIsRefusedInRedissWords(t *testing.T) {
	b := startBoth(t)
	for _, redis := range b.redis {
		redis.Do(t, "ACL", "SETUSER", "u", "on", ">p", "~job*", "~k", "&x", "+@all", "-incr", "-config|get")
	}
	for _, resp := range []string{"2", "3"} {
		for _, command := range []string{"GET k", "GET no", "INCR k", "MGET k no", "CONFIG GET x", "PUBLISH y m", "PUBLISH x m", "ACL WHOAMI"} {
			b.compare(t, resp, after(command), "AUTH u p")
		}
	}
	script := row{nil, []string{"EVAL", "return redis.call('INCR', KEYS[1])", "1", "k"}}
	b.compare(t, "3", script, "AUTH u p")

	b.set(t, "min-replicas-to-write", "1")
	for _, command := range []string{"SET k v", "GET k", "DEL k"} {
		b.compare(t, "2", after(command))
	}
	b.set(t, "min-replicas-to-write", "0")
}

func (b *both) set(t testing.TB, directive, value string) {
	t.Helper()
	for _, redis := range b.redis {
		redis.Do(t, "CONFIG", "SET", directive, value)
	}
}

// What Redis does otherwise within any MULTI it does otherwise when guarded: a BLMOVE that
// finds nothing has another nil, and a full Redis refuses what it would do outside.
func TestAGuardedCommandActsAsInAnyMulti(t *testing.T) {
	b := startBoth(t)
	for _, redis := range b.redis {
		holding(t, redis)
	}
	direct, proxied := b.hello(t, "2")
	defer b.set(t, "maxmemory", "0")
	for _, maxmemory := range []string{"0", "1"} {
		b.set(t, "maxmemory", maxmemory)
		for _, command := range []string{"BLMOVE l m LEFT LEFT 0", "BRPOPLPUSH l m 0", "BLPOP l 0", "XREAD BLOCK 0 STREAMS x $", "GET k", "DEL k", "SET k v", "SAVE"} {
			direct.Do(t, "MULTI")
			queued, exec := direct.Do(t, words(command)...), direct.Do(t, "EXEC")
			reply := strings.TrimPrefix(exec, "*1\r\n")
			if strings.HasPrefix(queued, "-") {
				reply = queued
			}
			want(t, proxied, reply, guarded(words(command)...)...)
		}
	}
}
