package integration

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// stream is a random scenario: what some clients send in turns. It is kept in
// pieces so that a failing one can be reduced to what matters.
type stream struct {
	seed  uint64
	turns []turn
}

// turn is what one client sends at once.
type turn struct {
	conn  string
	items []string
	cuts  []int
	// how is opSend, opLast or opReset; the last two only for the last turn of
	// a connection.
	how op
}

// traits are decided once for a whole stream, for they go together or not.
type traits struct {
	conns []string
	resp3 bool
	ks    bool // KS commands in between
	locks bool // also such that run scripts, which the feed and tracking would show
	users bool // several users
	feeds bool // MONITOR
	odd   int  // how many of hundred items are odd or broken
}

// generator draws streams. The same seed gives the same stream.
type generator struct {
	*rand.Rand
	traits
	locksTaken int
}

func newStream(seed uint64) stream {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0x6b73))}
	g.traits = g.drawTraits()
	s := stream{seed: seed}
	ended := map[string]bool{}
	for range 1 + g.IntN(8) {
		conn := pick(g, g.conns)
		if ended[conn] {
			continue
		}
		t := g.turn(conn)
		ended[conn] = t.how != opSend
		s.turns = append(s.turns, t)
	}
	return s
}

func (g *generator) drawTraits() traits {
	t := traits{
		conns: []string{"a", "b", "c"}[:pick(g, []int{1, 1, 2, 3})],
		resp3: g.chance(40),
		ks:    g.chance(40),
		users: g.chance(10),
		feeds: g.chance(10),
		odd:   pick(g, []int{0, 5, 20}),
	}
	t.locks = t.ks && !t.users && !t.feeds && g.chance(50)
	return t
}

func (g *generator) turn(conn string) turn {
	t := turn{conn: conn}
	if g.resp3 && g.chance(30) {
		t.items = append(t.items, "HELLO 3\r\n")
	}
	for range 1 + g.IntN(8) {
		t.items = append(t.items, g.item())
	}
	switch {
	case g.chance(4):
		t.how = opLast
	case g.chance(2):
		t.how = opReset
	case g.chance(40):
		t.cuts = randomCuts(g.Rand, len(strings.Join(t.items, "")))
	}
	return t
}

// item is one request, or what looks like one.
func (g *generator) item() string {
	if g.ks && g.chance(25) {
		return g.ksCommand()
	}
	roll := g.IntN(100)
	switch {
	case roll < g.odd/2:
		return g.oddity()
	case roll < g.odd:
		return g.broken()
	case roll < g.odd+15:
		return g.encode(g.stateful())
	default:
		return g.encode(g.ordinary())
	}
}

// encode writes a command as most clients do, or inline.
func (g *generator) encode(words string) string {
	args := words2args(words)
	plain := !strings.ContainsAny(words, "'\\") && len(words) < 4000
	switch {
	case strings.Contains(words, "INFO"), strings.HasPrefix(words, "COMMAND"):
		// Behind broken input an argument of these could be taken for a command
		// whose reply is never twice the same.
		return words + "\r\n"
	case plain && g.chance(25):
		return strings.Join(args, pick(g, []string{" ", " ", "  ", "\t"})) + pick(g, []string{"\r\n", "\r\n", "\n", " \r\n"})
	case g.chance(5):
		return lax(g, command(args...))
	}
	return command(args...)
}

// words2args splits at spaces, except inside single quotes.
func words2args(line string) []string {
	args := words.FindAllString(line, -1)
	for i, arg := range args {
		args[i] = strings.Trim(arg, "'")
	}
	return args
}

// lax replaces line feeds by what Redis takes for one.
func lax(g *generator, request string) string {
	return strings.ReplaceAll(request, "\r\n", "\r"+pick(g, []string{"X", "\r", "\x00", "*"}))
}

// ordinary commands work on a few keys of all types; nothing here depends on
// time, chance or the seed of Redis's hash tables.
func (g *generator) ordinary() string {
	line := pick(g, ordinaryCommands)
	for range strings.Count(line, "%k") {
		line = strings.Replace(line, "%k", pick(g, []string{"k", "l", "m", "a1"}), 1)
	}
	for range strings.Count(line, "%v") {
		line = strings.Replace(line, "%v", g.value(), 1)
	}
	return line
}

var ordinaryCommands = []string{
	"PING", "PING %v", "ECHO %v", "GET %k", "GET %k", "SET %k %v", "SET %k %v", "SET %k %v NX GET", "INCR n", "INCRBY n 5", "DECR n", "INCRBYFLOAT f 1.5",
	"APPEND %k %v", "STRLEN %k", "GETRANGE %k 0 5", "MGET %k %k none", "MSET %k %v %k %v", "DEL %k %k", "EXISTS %k %k", "TYPE %k", "RENAME %k %k",
	"RPUSH %k %v %v", "LPOP %k", "LPOP %k 2", "LRANGE %k 0 -1", "LLEN %k", "HSET h a 1 b xyz", "HGETALL h", "HGET h a", "HMGET h a none", "HDEL h a",
	"SADD s 1 2 3", "SMEMBERS s", "SISMEMBER s 2", "SCARD s", "ZADD z 1.5 a 2 b", "ZRANGE z 0 -1 WITHSCORES", "ZSCORE z a", "ZRANK z none", "ZMSCORE z a none",
	"XADD x 1-* f %v", "XRANGE x - +", "XLEN x", "XREAD STREAMS x 0", "SETEX %k 100 %v", "TTL %k", "PERSIST %k", "OBJECT ENCODING %k", "GETDEL %k", "COPY %k %k",
	"LPUSH %k", "GET", "SET %k", "FOO", "FOO %v", "HGET h", "INCR h", "LPUSH n x", "COMMAND COUNT", "COMMAND INFO get ks.lock", "CONFIG GET maxmemory-policy",
	"PUBLISH a %v", "PUBLISH b x", "PUBLISH p1 %v", "SPUBLISH s %v", "PUBSUB NUMSUB a b", "PUBSUB NUMPAT",
	"EVAL 'return 1' 0", "EVAL 'return {1,{2,KEYS[1]},false}' 1 %k", "EVAL 'return redis.call(\"GET\",KEYS[1])' 1 %k", "EVAL 'return redis.pcall(\"INCR\",KEYS[1])' 1 %k",
	"EVAL 'redis.setresp(3) return redis.call(\"HGETALL\",\"h\")' 0", "EVAL 'return redis.error_reply(ARGV[1])' 0 %v", "EVAL 'return redis.status_reply(\"fine\")' 0", "EVALSHA nosuch 0", "EVAL 'syntax' 0",
	"DEBUG PROTOCOL string", "DEBUG PROTOCOL integer", "DEBUG PROTOCOL double", "DEBUG PROTOCOL null", "DEBUG PROTOCOL array", "DEBUG PROTOCOL set", "DEBUG PROTOCOL map",
	"DEBUG PROTOCOL attrib", "DEBUG PROTOCOL push", "DEBUG PROTOCOL verbatim", "DEBUG PROTOCOL true", "DEBUG PROTOCOL false", "DEBUG PROTOCOL bignum",
}

func (g *generator) value() string {
	switch {
	case g.chance(2):
		return strings.Repeat("y", 1+g.IntN(200<<10))
	case g.chance(10):
		return strings.Repeat("z", g.IntN(2000)) + "z"
	}
	return pick(g, []string{"v", "1", "77", "x y", "\r\n", "+OK\r\n", "*1\r\n$4\r\nPING\r\n", "\x00", "\xff\xfe", ">2", "$-1\r\n", "KS.HELP"})
}

// stateful commands change what replies come, and in which form.
func (g *generator) stateful() string {
	from := statefulCommands
	if g.users {
		from = append(slices.Clip(from), userCommands...)
	}
	if !g.locks {
		from = append(slices.Clip(from), trackingCommands...)
	}
	if g.feeds {
		from = append(slices.Clip(from), "MONITOR", "MONITOR", "MONITOR")
	}
	if len(g.conns) > 1 {
		from = append(slices.Clip(from), "BLPOP k 0", "BRPOP l k 0", "BLMOVE k l LEFT RIGHT 0", "BZPOPMIN z 0", "XREAD BLOCK 0 STREAMS x $", "RPUSH k v", "RPUSH l v", "ZADD z 3 c")
	}
	return pick(g, from)
}

var statefulCommands = []string{
	"MULTI", "MULTI", "MULTI", "EXEC", "EXEC", "EXEC", "EXEC", "DISCARD", "WATCH k", "WATCH k l", "UNWATCH", "EXEC x", "MULTI x",
	"CLIENT REPLY ON", "CLIENT REPLY ON", "CLIENT REPLY ON", "CLIENT REPLY OFF", "CLIENT REPLY SKIP", "CLIENT REPLY SKIP", "CLIENT REPLY", "CLIENT REPLY FOO",
	"SUBSCRIBE a", "SUBSCRIBE a b", "SUBSCRIBE a a", "SUBSCRIBE", "PSUBSCRIBE p*", "PSUBSCRIBE p* q*", "SSUBSCRIBE s", "SSUBSCRIBE s t",
	"UNSUBSCRIBE", "UNSUBSCRIBE a", "UNSUBSCRIBE a b c", "PUNSUBSCRIBE", "PUNSUBSCRIBE p*", "SUNSUBSCRIBE", "SUNSUBSCRIBE s",
	"HELLO", "HELLO 3", "HELLO 3", "HELLO 2", "HELLO 9", "HELLO 3 SETNAME me", "HELLO 3 NOSUCH", "RESET", "RESET", "RESET x", "QUIT",
	"SELECT 0", "SELECT 1", "SELECT 2", "SELECT 99", "SWAPDB 0 1", "MOVE k 1", "FLUSHDB", "FLUSHALL",
	"CLIENT SETNAME me", "CLIENT GETNAME", "CLIENT NO-EVICT ON", "CLIENT INFO", "CLIENT SETINFO LIB-NAME x", "CLIENT UNBLOCK 999999", "CLIENT KILL ID 999999",
	"AUTH x", "AUTH default x", "AUTH a b c", "SCRIPT FLUSH", "WAIT 0 0", "DEBUG SLEEP 0.001", "REPLCONF ACK 1", "READONLY", "ASKING", "PSYNC", "ROLE",
}

var userCommands = []string{"AUTH bob pw", "AUTH bob pw", "AUTH bob wrong", "HELLO 3 AUTH bob pw", "HELLO 2 AUTH bob pw SETNAME bob", "ACL WHOAMI", "SUBSCRIBE d", "SUBSCRIBE a d", "GET b"}

var trackingCommands = []string{"CLIENT TRACKING ON", "CLIENT TRACKING ON NOLOOP", "CLIENT TRACKING OFF", "CLIENT TRACKING ON OPTIN", "CLIENT CACHING YES", "CLIENT TRACKINGINFO"}

// ksCommand is one of our own; none of them waits.
func (g *generator) ksCommand() string {
	if g.locks && g.chance(30) {
		g.locksTaken++ // a name of its own, so that it is always granted
		return command("KS.LOCK", fmt.Sprintf("free-%d-%d", g.locksTaken, g.Uint32()), "NOWAIT")
	}
	return pick(g, []string{
		ksHelp, ksHelp, ksHelp, "KS.HELP\r\n", "ks.help\n", "\"Ks.\\x48elp\"\r\n", "KS.LOCK\r\n", command("ks.unlock"), lax(g, ksHelp), command("KS.NOSUCH", "x"), "KS.NOSUCH\r\n",
	})
}

// oddity is unusual input that Redis takes.
func (g *generator) oddity() string {
	return pick(g, []string{
		"\r\n", "\n", "  \r\n", "*0\r\n", "*-1\r\n", "*-7\r\n", "*1\r\n$0\r\n\r\n", "\"\"\r\n", "$5\r\n", "+OK\r\n", "PING\rPING\r\n",
		"ECHO \"a\\x41\\n\"\r\n", "ECHO 'it\\'s'\r\n", "SET k \"\"\r\n", "GET 'k'\n", "\"GET\" \"k\"\r\n", "\xff\r\n", "K\r\n", "KS\r\n", "KS.\r\n", "#\r\n",
		command(strings.Repeat("n", 1+g.IntN(200)), "x"), command(strings.Repeat("n", 30000)), command(append([]string{"DEL"}, strings.Fields(strings.Repeat("k ", g.IntN(3000)))...)...),
		"DEL" + strings.Repeat(" k", g.IntN(500)) + "\r\n", command("get", "k"), command("PI\r\nNG"),
	})
}

// broken input makes Redis end the connection, or wait for ever.
func (g *generator) broken() string {
	if g.chance(40) {
		return g.mutated()
	}
	return pick(g, []string{
		"*+1\r\n", "*01\r\n", "* 1\r\n", "*x\r\n", "*\r\n", "*99999999999\r\n", "*1\r\n:4\r\n", "*1\r\nPING\r\n", "*1\r\n$-1\r\n", "*1\r\n$+4\r\nPING\r\n", "*2\r\n$3\r\nGET\r\n$x\r\n",
		"*1\r\n$99999999999\r\n", "ECHO \"open\r\n", "ECHO 'open\r\n", "ECHO \"a\"b\r\n", "*1\n$4\nPING\n", "PI\x00NG\r\n", "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n", "*1\r\n$4\r\nPI", "*2\r\n", "GE",
		string(g.garbage(1 + g.IntN(60))),
	})
}

// mutated is an ordinary request with a few bytes changed, lost or added.
func (g *generator) mutated() string {
	b := []byte(g.encode(g.ordinary()))
	for range 1 + g.IntN(3) {
		at := g.IntN(len(b))
		switch g.IntN(3) {
		case 0:
			b[at] = pick(g, []byte("\r\n*$:+-0123456789 X\x00\""))
		case 1:
			b = slices.Delete(b, at, at+1)
		default:
			b = slices.Insert(b, at, pick(g, []byte("\r\n*$:0123456789 X")))
		}
		if len(b) == 0 {
			return "\r\n"
		}
	}
	return string(b)
}

func (g *generator) garbage(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

func pick[T any](g *generator, from []T) T { return from[g.IntN(len(from))] }

// scenario turns the stream into steps.
func (s stream) scenario() scenario {
	sc := scenario{name: fmt.Sprintf("seed %d", s.seed)}
	for _, t := range s.turns {
		data := strings.Join(t.items, "")
		st := step{op: opSend, conn: t.conn, data: data, cuts: t.cuts}
		if t.how == opLast {
			st.op = opLast
		}
		sc.steps = append(sc.steps, st)
		if t.how == opReset {
			sc.steps = append(sc.steps, reset(t.conn))
		}
		sc.closesInFlight = sc.closesInFlight || len(data) > 16000
	}
	if sc.contains("AUTH BOB") || sc.contains("BOB\r\n") {
		sc.admin = []string{"ACL SETUSER bob on >pw ~* resetchannels &a &p* +@all -get"}
		sc.restore = []string{"ACL DELUSER bob"}
	}
	return sc
}

// size counts requests and bytes.
func (s stream) size() (items, bytes int) {
	for _, t := range s.turns {
		items += len(t.items)
		bytes += len(strings.Join(t.items, ""))
	}
	return items, bytes
}
