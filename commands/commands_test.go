package commands

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/tidwall/redcon"
	"go.uber.org/goleak"

	"github.com/keysmith-proxy/keysmith-proxy/engine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testSession is a client: one connection to Redis, and a protocol version.
type testSession struct {
	conn     *redis.Conn
	resp     int
	watching bool
}

func (s *testSession) Do(_ context.Context, args ...any) (any, error) {
	reply, err := s.conn.Do(context.Background(), args...).Result()
	var refused redis.Error
	switch {
	case errors.Is(err, redis.Nil):
		return nil, nil
	case errors.As(err, &refused):
		return nil, engine.RedisError(refused.Error())
	}
	return reply, err
}

// Exchange asks by Do, which is enough for replies that are strings.
func (s *testSession) Exchange(ctx context.Context, commands ...[]any) ([][]byte, error) {
	var replies [][]byte
	for _, args := range commands {
		reply, err := s.Do(ctx, args...)
		replies = append(replies, rawReply(reply, err))
	}
	return replies, nil
}

func rawReply(reply any, err error) []byte {
	switch v := reply.(type) {
	case string:
		return redcon.AppendBulkString(nil, v)
	case int64:
		return redcon.AppendInt(nil, v)
	case []any:
		raw := redcon.AppendArray(nil, len(v))
		for _, element := range v {
			raw = append(raw, rawReply(element, nil)...)
		}
		return raw
	}
	if err != nil {
		return redcon.AppendError(nil, err.Error())
	}
	return redcon.AppendNull(nil)
}

func (s *testSession) Watching() bool      { return s.watching }
func (s *testSession) DB() int             { return 0 }
func (s *testSession) RESP() int           { return s.resp }
func (s *testSession) Push(...string) bool { return false }

func (s *testSession) Peer(context.Context) (engine.Peer, error) {
	return engine.Peer{Addr: "192.0.2.1:1", Name: "test"}, nil
}

// fixture is a table on an engine on a miniredis.
type fixture struct {
	t     *testing.T
	table *Table
	mini  *miniredis.Miniredis
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	mini := miniredis.RunT(t)
	client := func() *redis.Client {
		return redis.NewClient(&redis.Options{Addr: mini.Addr(), DisableIdentity: true})
	}
	e := engine.New(engine.Config{NewClient: client})
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &fixture{t: t, table: New(e), mini: mini}
}

func (f *fixture) session(resp int) *testSession {
	c := redis.NewClient(&redis.Options{Addr: f.mini.Addr(), DisableIdentity: true})
	conn := c.Conn()
	f.t.Cleanup(func() {
		conn.Close()
		c.Close()
	})
	return &testSession{conn: conn, resp: resp}
}

// run runs a command line; "" is an empty argument.
func (f *fixture) run(ctx context.Context, s Session, line string) string {
	var args [][]byte
	for _, arg := range strings.Split(line, " ") {
		args = append(args, []byte(strings.Trim(arg, `"`)))
	}
	return string(f.table.Run(ctx, s, args, nil))
}

// pattern turns a wanted reply into a regular expression: TOKEN and FENCE stand for any.
func pattern(want string) *regexp.Regexp {
	p := regexp.QuoteMeta(want)
	p = strings.ReplaceAll(p, "TOKEN", `\$26\r\n[A-Z2-7]{26}`)
	p = strings.ReplaceAll(p, "FENCE", `:[0-9]{16}`)
	return regexp.MustCompile("^" + p + "$")
}

func TestRepliesAndErrors(t *testing.T) {
	rows := []struct{ line, want string }{
		{"KS.LOCK", "-ERR wrong number of arguments for 'ks.lock' command\r\n"},
		{"KS.UNLOCK", "-ERR wrong number of arguments for 'ks.unlock' command\r\n"},
		{"KS.UNLOCK n t x", "-ERR wrong number of arguments for 'ks.unlock' command\r\n"},
		{"Ks.Memo", "-ERR wrong number of arguments for 'ks.memo' command\r\n"},
		{"KS.RESOLVE n t", "-ERR wrong number of arguments for 'ks.resolve' command\r\n"},
		{"KS.EXTEND n t PX", "-ERR wrong number of arguments for 'ks.extend' command\r\n"},
		{"KS.STATUS", "-ERR wrong number of arguments for 'ks.status' command\r\n"},
		{"KS.FORGET", "-ERR wrong number of arguments for 'ks.forget' command\r\n"},
		{"KS.FORGET n x", "-ERR wrong number of arguments for 'ks.forget' command\r\n"},
		{"KS.STATUS n x", "-ERR wrong number of arguments for 'ks.status' command\r\n"},
		{"KS.REJECT n t", "-ERR wrong number of arguments for 'ks.reject' command\r\n"},
		{"KS.HELP x", "-ERR wrong number of arguments for 'ks.help' command\r\n"},

		{"KS.LOCK free", "*2\r\nTOKEN\r\nFENCE\r\n"},
		{"ks.lock free:2 px 1000 wait 0", "*2\r\nTOKEN\r\nFENCE\r\n"},
		{"KS.LOCK free:3 EX 9007199254740 NOWAIT", "*2\r\nTOKEN\r\nFENCE\r\n"},
		{"KS.LOCK held NOWAIT", "*-1\r\n"},
		{"KS.LOCK held WAIT 1", "*-1\r\n"},
		{"KS.MEMO held NOWAIT", "*-1\r\n"},

		{"KS.LOCK n PX", "-ERR syntax error\r\n"},
		{"KS.LOCK n PX 1 PX 1", "-ERR syntax error\r\n"},
		{"KS.LOCK n PX 1 EX 1", "-ERR syntax error\r\n"},
		{"KS.LOCK n WAIT", "-ERR syntax error\r\n"},
		{"KS.LOCK n WAIT 1 NOWAIT", "-ERR syntax error\r\n"},
		{"KS.LOCK n NOWAIT WAIT 1", "-ERR syntax error\r\n"},
		{"KS.LOCK n NOWAIT NOWAIT", "-ERR syntax error\r\n"},
		{"KS.LOCK n SESSION PX 1", "-ERR syntax error\r\n"},
		{"KS.LOCK n EX 1 SESSION", "-ERR syntax error\r\n"},
		{"KS.LOCK n SESSION SESSION", "-ERR syntax error\r\n"},
		{"KS.LOCK n TOKEN", "-ERR syntax error\r\n"},
		{"KS.LOCK n TOKEN t TOKEN t", "-ERR syntax error\r\n"},
		{"KS.LOCK n TOKEN t SOON", "-ERR syntax error\r\n"},
		{`KS.LOCK n TOKEN ""`, "-ERR invalid token: it must have 1 to 128 bytes\r\n"},
		{"KS.MEMO n TOKEN " + strings.Repeat("t", 129), "-ERR invalid token: it must have 1 to 128 bytes\r\n"},
		{"KS.EXTEND n t PX 1 EX 1", "-ERR syntax error\r\n"},
		{"KS.EXTEND n t SESSION x", "-ERR syntax error\r\n"},
		{"KS.EXTEND n t PX 1 NOWAIT", "-ERR syntax error\r\n"},
		{"KS.REJECT n t m NOWAIT", "-ERR syntax error\r\n"},
		{"KS.REJECT n t m TOKEN t", "-ERR syntax error\r\n"},
		{"KS.LOCK n PX x SOON", "-ERR syntax error\r\n"},
		{"KS.RESOLVE n t v WAIT 1", "-ERR syntax error\r\n"},
		{"KS.RESOLVE n t v STALE 1", "-ERR syntax error\r\n"},
		{"KS.RESOLVE n t v EX 1 STALE", "-ERR syntax error\r\n"},
		{"KS.RESOLVE n t v EX 1 STALE 1 STALE 1", "-ERR syntax error\r\n"},
		{"KS.REJECT n t m EX 1 STALE 1", "-ERR syntax error\r\n"},
		{"KS.LOCK n EX 1 STALE 1", "-ERR syntax error\r\n"},
		{"KS.RESOLVE n t v EX 1 STALE 0", "-ERR invalid expire time in 'ks.resolve' command\r\n"},
		{"KS.RESOLVE n t v STALE 9007199254740993 EX 1", "-ERR invalid expire time in 'ks.resolve' command\r\n"},
		{"KS.RESOLVE n t v EX 1 STALE x", "-ERR value is not an integer or out of range\r\n"},

		{"KS.LOCK n PX 0", "-ERR invalid expire time in 'ks.lock' command\r\n"},
		{"KS.LOCK n PX -5", "-ERR invalid expire time in 'ks.lock' command\r\n"},
		{"KS.LOCK n PX 9007199254740993", "-ERR invalid expire time in 'ks.lock' command\r\n"},
		{"KS.MEMO n EX 9007199254741", "-ERR invalid expire time in 'ks.memo' command\r\n"},
		{"KS.RESOLVE n t v PX 0", "-ERR invalid expire time in 'ks.resolve' command\r\n"},
		{"KS.EXTEND n t PX 0", "-ERR invalid expire time in 'ks.extend' command\r\n"},
		{"KS.REJECT n t m EX 0", "-ERR invalid expire time in 'ks.reject' command\r\n"},
		{"KS.REJECT n t " + strings.Repeat("m", 4097), "-ERR message is longer than 4096 bytes\r\n"},
		{"KS.LOCK n PX abc", "-ERR value is not an integer or out of range\r\n"},
		{"KS.LOCK n PX +1", "-ERR value is not an integer or out of range\r\n"},
		{"KS.LOCK n PX 01", "-ERR value is not an integer or out of range\r\n"},
		{`KS.LOCK n PX ""`, "-ERR value is not an integer or out of range\r\n"},
		{"KS.LOCK n PX 9223372036854775808", "-ERR value is not an integer or out of range\r\n"},
		{"KS.LOCK n WAIT -1", "-ERR timeout is negative\r\n"},
		{"KS.LOCK n WAIT abc", "-ERR timeout is not an integer or out of range\r\n"},
		{"KS.LOCK n WAIT 9007199254740993", "-ERR timeout is not an integer or out of range\r\n"},

		{`KS.LOCK ""`, "-ERR invalid lock name\r\n"},
		{"KS.LOCK " + strings.Repeat("n", 64<<10+1), "-ERR invalid lock name\r\n"},
		{"KS.LOCK nightly/lock", "-ERR invalid lock name\r\n"},
		{"KS.MEMO likes/fence:kristoff", "-ERR invalid lock name\r\n"},
		{"KS.UNLOCK a/lockwaiting:b t", "-ERR invalid lock name\r\n"},
		{"KS.RESOLVE a/lockwaitingset:b t v", "-ERR invalid lock name\r\n"},
		{"KS.LOCK a/error", "-ERR invalid lock name\r\n"},
		{"KS.LOCK a/stale:b", "-ERR invalid lock name\r\n"},

		{"KS.STATUS a/stale:b", "-ERR invalid lock name\r\n"},
		{"KS.EXTEND a/stale:b t PX 1", "-ERR invalid lock name\r\n"},
		{"KS.REJECT a/stale:b t m", "-ERR invalid lock name\r\n"},
		{"KS.FORGET a/stale:b", "-ERR invalid lock name\r\n"},

		{"KS.MLOCK 1", "-ERR wrong number of arguments for 'ks.mlock' command\r\n"},
		{"KS.MLOCK x a", "-ERR value is not an integer or out of range\r\n"},
		{"KS.MLOCK 0 a", "-ERR numkeys should be greater than 0\r\n"},
		{"KS.MLOCK 129 a", "-ERR numkeys should be at most 128\r\n"},
		{"KS.MLOCK 2 a", "-ERR syntax error\r\n"},
		{"KS.MLOCK 2 a a", "-ERR syntax error\r\n"},
		{"KS.MLOCK 1 a b", "-ERR syntax error\r\n"},
		{"KS.MLOCK 2 a b PX 0", "-ERR invalid expire time in 'ks.mlock' command\r\n"},
		{"KS.MLOCK 2 a a/stale:b", "-ERR invalid lock name\r\n"},
		{"KS.MLOCK 2 ma mb PX 60000 TOKEN t", "*3\r\n$1\r\nt\r\nFENCE\r\nFENCE\r\n"},
		{"KS.MLOCK 2 ma held NOWAIT", "*-1\r\n"},
		{"KS.MLOCK 2 mc ma WAIT 1", "*-1\r\n"},
		{"KS.MUNLOCK 2 ma t", "-ERR syntax error\r\n"},
		{"KS.MUNLOCK 1 ma", "-ERR wrong number of arguments for 'ks.munlock' command\r\n"},
		{"KS.MUNLOCK 3 ma mb mc t", ":2\r\n"},
		{`KS.MUNLOCK 1 ma ""`, ":0\r\n"},
		{"KS.MUNLOCK 1 ma t", ":0\r\n"},
		{"KS.GUARD n t", "-ERR wrong number of arguments for 'ks.guard' command\r\n"},
		{"KS.GUARD a/stale:b t PING", "-ERR invalid lock name\r\n"},
		{"KS.GUARD n t PING", "-LOCKLOST the token does not hold the lock on 'n', so nothing was run: get the lock again, and read again what the command was based on\r\n"},
		{"KS.GUARD held other SET guarded x", "-LOCKLOST the token does not hold the lock on 'held', so nothing was run: get the lock again, and read again what the command was based on\r\n"},
		{`KS.GUARD held "" SET guarded x`, "-LOCKLOST the token does not hold the lock on 'held', so nothing was run: get the lock again, and read again what the command was based on\r\n"},
		{"ks.guard held mine set guarded v", "$2\r\nOK\r\n"},
		{"KS.GUARD held mine GET guarded", "$1\r\nv\r\n"},
		{"KS.GUARD held mine INCR guarded:n", ":1\r\n"},
		{"KS.GUARD list t PING", "-LOCKLOST the token does not hold the lock on 'list', so nothing was run: get the lock again, and read again what the command was based on\r\n"},
		{"KS.GUARD n t Select 1", "-ERR KS.GUARD can't run 'Select': it changes the connection, or answers other than once\r\n"},
		{"KS.GUARD held mine ks.guard held mine PING", "-ERR KS.GUARD can't run 'ks.guard': it changes the connection, or answers other than once\r\n"},
		{"KS.GUARD held mine KS.NOSUCH", "-ERR KS.GUARD can't run 'KS.NOSUCH': it changes the connection, or answers other than once\r\n"},
		{"KS.WAIT n", "-ERR wrong number of arguments for 'ks.wait' command\r\n"},
		{"KS.WAIT n -1", "-ERR timeout is negative\r\n"},
		{"KS.WAIT n soon", "-ERR timeout is not an integer or out of range\r\n"},
		{"KS.WAIT a/stale:b 1", "-ERR invalid lock name\r\n"},
		{"KS.WAIT nobody 0", ":1\r\n"},
		{"KS.WAIT held 1", ":0\r\n"},
		{"KS.STATUS held", status(1, -1, "", 0, 0, 0, 0)},
		{"KS.STATUS nothing", status(0, -2, "", 0, 0, 0, 0)},
		{"KS.STATUS cached", status(0, -2, "", 0, 0, 1, 0)},
		{"KS.UNLOCK held", ":0\r\n"},
		{`KS.UNLOCK held ""`, ":0\r\n"},
		{"KS.UNLOCK held other", ":0\r\n"},
		{"KS.EXTEND held other PX 1000", ":0\r\n"},
		{"KS.EXTEND held mine EX 1000", ":1\r\n"},
		{"KS.UNLOCK held mine", ":1\r\n"},
		{"KS.MEMO cached", "*2\r\n$5\r\nvalue\r\n$1\r\nv\r\n"},
		{"KS.MEMO missing", "*2\r\n$8\r\ngenerate\r\nTOKEN\r\n"},
		{"KS.RESOLVE missing nope v", ":0\r\n"},
		{"KS.RESOLVE promised mine v EX 10", ":1\r\n"},
		{"KS.MEMO promised", "*2\r\n$5\r\nvalue\r\n$1\r\nv\r\n"},
		{"KS.LOCK mine SESSION TOKEN one", "*2\r\n$3\r\none\r\nFENCE\r\n"},
		{"KS.LOCK mine TOKEN two", "-DEADLOCK this connection already holds 'mine' (SESSION): unlock it first, or ask with the token that has it\r\n"},
		{"KS.MEMO mine", "-DEADLOCK this connection already holds 'mine' (SESSION): unlock it first, or ask with the token that has it\r\n"},
		{"KS.LOCK mine TOKEN two NOWAIT", "*-1\r\n"},
		{"KS.LOCK mine SESSION TOKEN one", "*2\r\n$3\r\none\r\nFENCE\r\n"},
		{"KS.EXTEND mine one PX 1", ":1\r\n"},
		{"KS.UNLOCK mine", ":1\r\n"},
		{"KS.UNLOCK mine", ":0\r\n"},

		{"KS.MEMO rejected TOKEN t", "*2\r\n$8\r\ngenerate\r\n$1\r\nt\r\n"},
		{"KS.REJECT rejected other no", ":0\r\n"},
		{"KS.REJECT rejected t no\r\n:1\r\nluck PX 60000", ":1\r\n"},
		{"KS.MEMO rejected", "-MEMOERR no  :1  luck\r\n"},
		{"KS.FORGET rejected", ":1\r\n"},
		{"KS.FORGET rejected", ":0\r\n"},
		{"KS.MEMO rejected TOKEN t2", "*2\r\n$8\r\ngenerate\r\n$2\r\nt2\r\n"},
		{"KS.FORGET rejected", ":1\r\n"},
		{"KS.RESOLVE rejected t2 old", ":0\r\n"},
		{"KS.FORGET promised", ":1\r\n"},
		{"KS.MEMO promised TOKEN p", "*2\r\n$8\r\ngenerate\r\n$1\r\np\r\n"},
		{"KS.RESOLVE promised p v stale 60000 EX 10", ":1\r\n"},
		{"KS.FORGET promised", ":1\r\n"},
		{"KS.MEMO past TOKEN p", "*2\r\n$8\r\ngenerate\r\n$1\r\np\r\n"},
		{"KS.MEMO past", "*2\r\n$5\r\nstale\r\n$1\r\nv\r\n"},
		{"KS.FORGET list", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"},
		{"KS.MEMO list", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"},
	}
	f := newFixture(t)
	_ = f.mini.Set("held/lock", "mine")
	_ = f.mini.Set("promised/lock", "mine")
	_ = f.mini.Set("cached", "v")
	_ = f.mini.Set("past/stale", "1 2 v")
	_, _ = f.mini.Push("list", "x")
	s := f.session(2)
	for _, row := range rows {
		if got := f.run(t.Context(), s, row.line); !pattern(row.want).MatchString(got) {
			t.Errorf("%.60s\n got %q\nwant %q", row.line, got, row.want)
		}
	}
}

// status is the reply of KS.STATUS.
func status(held, ttl int, owner string, fence, waiters, value, failed int) string {
	return fmt.Sprintf("*14\r\n$4\r\nheld\r\n:%d\r\n$3\r\nttl\r\n:%d\r\n$5\r\nowner\r\n$%d\r\n%s\r\n$5\r\nfence\r\n:%d\r\n"+
		"$7\r\nwaiters\r\n:%d\r\n$5\r\nvalue\r\n:%d\r\n$5\r\nerror\r\n:%d\r\n",
		held, ttl, len(owner), owner, fence, waiters, value, failed)
}

func TestStatusTellsWhoHolds(t *testing.T) {
	f := newFixture(t)
	s := f.session(2)
	f.run(t.Context(), s, "KS.LOCK n EX 100")
	got := f.run(t.Context(), s, "KS.STATUS n")
	if !strings.Contains(got, "$5\r\nowner\r\n$16\r\n192.0.2.1:1 test\r\n") || strings.Contains(got, ":0\r\n$5\r\nowner") {
		t.Errorf("got %q", got)
	}
}

func TestNilIsRESP3sOwnInRESP3(t *testing.T) {
	f := newFixture(t)
	_ = f.mini.Set("held/lock", "x")
	for _, line := range []string{"KS.LOCK held NOWAIT", "KS.MEMO held WAIT 1"} {
		if got := f.run(t.Context(), f.session(3), line); got != "_\r\n" {
			t.Errorf("%s: %q", line, got)
		}
	}
}

func TestWhatEndsAWaitDecidesItsReply(t *testing.T) {
	f := newFixture(t)
	_ = f.mini.Set("held/lock", "x")
	for cause, want := range map[error]string{
		ErrHangUp:   "*-1\r\n",
		ErrShutdown: "-KSUNAVAILABLE proxy is shutting down\r\n",
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		for _, line := range []string{"KS.LOCK held", "KS.MEMO held", "KS.WAIT held 0"} {
			if line == "KS.WAIT held 0" && cause == ErrHangUp {
				want = ":0\r\n"
			}
			if got := f.run(ctx, f.session(2), line); got != want {
				t.Errorf("%s, %v: %q", line, cause, got)
			}
		}
	}
}

func TestAnErrorCannotForgeAReply(t *testing.T) {
	got := string(appendFailure(nil, &testSession{resp: 2}, engine.RedisError("ERR a\r\n:1\r\nb")))
	if want := "-ERR a  :1  b\r\n"; got != want {
		t.Errorf("got %q", got)
	}
}

func TestKnowsItsNamesInAnyCaseAndAllocatesNothing(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{"ks.lock", "KS.UNLOCK", "Ks.MeMo", "KS.RESOLVE", "ks.help", "ks.status", "ks.extend", "Ks.Reject", "ks.Forget"} {
		if !f.table.Knows([]byte(name)) {
			t.Errorf("does not know %s", name)
		}
	}
	unknown := []string{"", "k", "ks", "ks.", "get", "ks.forgets", "ks.locks", "ksxlock", "\u212as.lock", strings.Repeat("k", 99)}
	for _, name := range unknown {
		if f.table.Knows([]byte(name)) {
			t.Errorf("knows %q", name)
		}
	}
	lock := []byte("KS.LOCK")
	if n := testing.AllocsPerRun(100, func() { f.table.Knows(lock) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestHelpNamesEveryCommandWithItsUnits(t *testing.T) {
	f := newFixture(t)
	got := f.run(t.Context(), f.session(2), "KS.HELP")
	if !strings.HasPrefix(got, fmt.Sprintf("*%d\r\n", 2*len(commands()))) {
		t.Errorf("got %.20q", got)
	}
	for _, c := range commands() {
		if !strings.Contains(got, c.usage) || !strings.Contains(got, c.summary) {
			t.Errorf("%s is missing", c.name)
		}
		if strings.Contains(c.usage, " ms") && !strings.Contains(c.summary, "milliseconds") {
			t.Errorf("%s does not explain its units", c.name)
		}
	}
}

func FuzzOptionsAreRefusedOrInRange(f *testing.F) {
	for _, line := range []string{"PX 5 NOWAIT", "EX 1", "WAIT 1", "px 9223372036854775807", "wait -0", "PX PX"} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		args := bytes.Split(line, []byte(" "))
		o, p := parseOptions("ks.lock", args, accepted{wait: true})
		if p != noProblem {
			return
		}
		if len(args) > 4 || o.expire < 0 || o.expire > longestTime || o.wait < 0 || o.wait > longestTime {
			t.Errorf("%q is taken as %+v", line, o)
		}
		if o.nowait && o.waitGiven {
			t.Errorf("%q waits and does not wait", line)
		}
	})
}
