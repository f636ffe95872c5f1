package guard

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// stage is a proxy whose way to Redis can be held up.
type stage struct {
	redis *harness.Redis
	relay *harness.Relay
	proxy *harness.Proxy
}

func startStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{redis: harness.StartRedis(t)}
	s.relay = harness.StartRelay(t, s.redis.Addr)
	s.proxy = harness.StartProxyWith(t, harness.ProxyOptions{Upstream: s.relay.URL()})
	eventually(t, "the proxy to be ready", func() bool {
		c := s.proxy.Dial(t)
		defer c.Close()
		return !strings.HasPrefix(c.Do(t, "KS.STATUS", "x"), "-KSUNAVAILABLE")
	})
	holding(t, s.redis)
	return s
}

// link is the way to Redis of a client of the proxy.
func (s *stage) link(t *testing.T, c *harness.Conn) *harness.Link {
	t.Helper()
	for _, field := range strings.Fields(c.Do(t, "CLIENT", "INFO")) {
		if addr, ok := strings.CutPrefix(field, "addr="); ok {
			return s.relay.Link(addr)
		}
	}
	t.Fatal("the client has no link")
	return nil
}

// between sends a guarded INCR of n and does something when the proxy has seen
// that the token holds the lock, but the command has not reached Redis.
func (s *stage) between(t *testing.T, c *harness.Conn, do func(*harness.Link)) {
	t.Helper()
	link := s.link(t, c)
	link.LimitUp(len(harness.Command("WATCH", key) + harness.Command("GET", key) + harness.Command("MULTI")))
	c.Send(t, harness.Command(guarded("INCR", "n")...))
	command := len(harness.Command("INCR", "n") + harness.Command("EXEC"))
	eventually(t, "the command to be on its way", func() bool { return link.Held() == command })
	do(link)
	link.Resume()
}

func TestWhatHappensBetweenTheLookAndTheCommand(t *testing.T) {
	const newcomer = "another"
	for what, c := range map[string]struct {
		meddle func(*testing.T, *harness.Redis)
		runs   bool
	}{
		"nothing":                        {func(*testing.T, *harness.Redis) {}, true},
		"a renewal":                      {func(t *testing.T, r *harness.Redis) { r.Do(t, "PEXPIRE", key, "60000") }, true},
		"a write to another key":         {func(t *testing.T, r *harness.Redis) { r.Do(t, "SET", "x", "y") }, true},
		"released and got again":         {func(t *testing.T, r *harness.Redis) { r.Do(t, "DEL", key); holding(t, r) }, true},
		"released":                       {func(t *testing.T, r *harness.Redis) { r.Do(t, "DEL", key) }, false},
		"handed on":                      {func(t *testing.T, r *harness.Redis) { r.Do(t, "SET", key, newcomer, "PX", "60000") }, false},
		"all data gone":                  {func(t *testing.T, r *harness.Redis) { r.Do(t, "FLUSHALL") }, false},
		"no string any more":             {func(t *testing.T, r *harness.Redis) { r.Do(t, "DEL", key); r.Do(t, "RPUSH", key, token) }, false},
		"run out, and nobody looked yet": {runOut, false},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := startStage(t)
			for _, resp := range []string{"2", "3"} {
				s.redis.Do(t, "FLUSHALL")
				s.redis.Do(t, "DEBUG", "SET-ACTIVE-EXPIRE", "0")
				s.redis.Do(t, "SET", key, token, "PX", "60000")
				if what == "run out, and nobody looked yet" {
					s.redis.Do(t, "SET", key, token, "PX", "4000")
				}
				client := s.proxy.Dial(t)
				client.Do(t, "HELLO", resp)
				s.between(t, client, func(*harness.Link) { c.meddle(t, s.redis) })
				reply := client.Reply(t)
				n := s.redis.Do(t, "GET", "n")
				switch {
				case c.runs && (reply != ":1\r\n" || n != "$1\r\n1\r\n"):
					t.Errorf("RESP%s: replies %q, and n is %q", resp, reply, n)
				case !c.runs && (!strings.HasPrefix(reply, "-LOCKLOST ") && !strings.HasPrefix(reply, "-WRONGTYPE ") || n != "$-1\r\n"):
					t.Errorf("RESP%s: replies %q, and n is %q", resp, reply, n)
				}
				clean(t, s.redis, client)
			}
		})
	}
}

// runOut waits until the lease is over by Redis's clock, without a look at its key.
func runOut(t *testing.T, redis *harness.Redis) {
	c := redis.Dial(t)
	defer c.Close()
	now := func() int64 {
		seconds, _ := strconv.ParseInt(strings.Split(c.Do(t, "TIME"), "\r\n")[2], 10, 64)
		return seconds
	}
	began := now()
	eventually(t, "the lease to be over", func() bool { return now() > began+5 })
}

// clean fails the test unless the connection is neither in MULTI nor has the lock's key watched.
func clean(t *testing.T, redis *harness.Redis, c *harness.Conn) {
	t.Helper()
	redis.Do(t, "DEL", key)
	redis.Do(t, "SET", key, token, "PX", "60000")
	want(t, c, "+OK\r\n", "MULTI")
	want(t, c, "+QUEUED\r\n", "PING")
	want(t, c, "*1\r\n+PONG\r\n", "EXEC")
}

// A client whose command was on its way when its session broke is told nothing.
func TestASessionThatBreaksBetweenTheLookAndTheCommand(t *testing.T) {
	s := startStage(t)
	c := s.proxy.Dial(t)
	before, _ := c.Received()
	s.between(t, c, func(link *harness.Link) {
		before, _ = c.Received()
		link.Cut()
	})
	c.AwaitEnd(t)
	if after, _ := c.Received(); len(after) != len(before) {
		t.Errorf("the client is told %q", after[len(before):])
	}
	if n := s.redis.Do(t, "GET", "n"); n != "$-1\r\n" {
		t.Errorf("n is %q", n)
	}
}

func TestAStaleHolderChangesNothing(t *testing.T) {
	s := startStage(t)
	s.redis.Do(t, "FLUSHALL")
	stale, owner := s.proxy.Dial(t), s.proxy.Dial(t)
	wantPrefix(t, stale, "*2\r\n", "KS.LOCK", name, "PX", "60000", "TOKEN", "old")
	want(t, stale, "+OK\r\n", "KS.GUARD", name, "old", "SET", "v", "1")
	s.redis.Do(t, "DEL", key) // as if its lease had run out
	want(t, stale, lost, "KS.GUARD", name, "old", "SET", "v", "stale")
	wantPrefix(t, owner, "*2\r\n", "KS.LOCK", name, "PX", "60000", "TOKEN", token)
	before := s.redis.Do(t, "DEBUG", "DIGEST")
	for _, foreign := range []string{"old", "", "T", "t ", "tt", strings.Repeat("t", 1000)} {
		for _, command := range []string{"SET v stale", "DEL " + key, "FLUSHALL", "nosuch", "EVAL return 0"} {
			want(t, stale, lost, append([]string{"KS.GUARD", name, foreign}, words(command)...)...)
		}
	}
	want(t, stale, strings.Replace(lost, "job:1", "job:2", 1), "KS.GUARD", "job:2", token, "SET", "v", "stale")
	if after := s.redis.Do(t, "DEBUG", "DIGEST"); after != before {
		t.Error("the data has changed")
	}
	want(t, owner, "+OK\r\n", guarded("SET", "v", "2")...)
	want(t, owner, ":1\r\n", "KS.UNLOCK", name, token)
	want(t, owner, lost, guarded("SET", "v", "3")...)
	want(t, owner, "$1\r\n2\r\n", "GET", "v")
}

func TestThePromiseOfAMemoGuardsAsWell(t *testing.T) {
	s := startStage(t)
	c := s.proxy.Dial(t)
	want(t, c, "*2\r\n$8\r\ngenerate\r\n$1\r\np\r\n", "KS.MEMO", "m", "TOKEN", "p")
	want(t, c, ":1\r\n", "KS.GUARD", "m", "p", "INCR", "computed")
	want(t, c, ":1\r\n", "KS.RESOLVE", "m", "p", "v")
	wantPrefix(t, c, "-LOCKLOST ", "KS.GUARD", "m", "p", "INCR", "computed")
}

// Each right in turn is taken from a user: nothing is run, and nothing is left behind.
func TestGuardWithoutTheRightsForIt(t *testing.T) {
	s := startStage(t)
	admin := s.redis.Dial(t)
	for _, rules := range []string{
		"-watch", "-get", "-multi", "-exec", "-discard -unwatch -exec", "-multi -exec", "-watch -get", "-watch -multi", "resetkeys ~n", "-@all", "-incr",
	} {
		c := s.proxy.Dial(t)
		admin.Do(t, "ACL", "SETUSER", "u", "reset", "on", ">p", "~*", "&*", "+@all")
		want(t, c, "+OK\r\n", "AUTH", "u", "p")
		admin.Do(t, append([]string{"ACL", "SETUSER", "u"}, words(rules)...)...)
		for range 2 {
			wantPrefix(t, c, "-NOPERM ", guarded("INCR", "n")...)
		}
		want(t, admin, "$-1\r\n", "GET", "n")
		admin.Do(t, "ACL", "SETUSER", "u", "+@all", "~*")
		want(t, c, "+PONG\r\n", "PING") // it is not queued
		clean(t, s.redis, c)
	}
	c := s.proxy.Dial(t)
	admin.Do(t, "ACL", "SETUSER", "u", "reset", "on", ">p", "~*", "-@all", "+watch", "+get", "+multi", "+exec", "+incr")
	want(t, c, "+OK\r\n", "AUTH", "u", "p")
	want(t, c, ":1\r\n", guarded("INCR", "n")...)
	wantPrefix(t, c, "-LOCKLOST ", "KS.GUARD", name, "other", "INCR", "n")
	admin.Do(t, "ACL", "SETUSER", "u", "+ping")
	want(t, c, "+PONG\r\n", "PING")

	admin.Do(t, "ACL", "SETUSER", "default", "off")
	c = s.proxy.Dial(t)
	want(t, c, "-NOAUTH Authentication required.\r\n", guarded("INCR", "n")...)
}

// Redis that is busy with a script takes WATCH and MULTI, but neither GET nor EXEC.
func TestGuardWhileRedisIsBusy(t *testing.T) {
	s := startStage(t)
	c, other := s.proxy.Dial(t), s.redis.Dial(t)
	s.redis.Do(t, "CONFIG", "SET", "busy-reply-threshold", "1")
	other.Send(t, harness.Command("EVAL", "while true do end", "0"))
	eventually(t, "Redis to be busy", func() bool { return strings.HasPrefix(s.redis.Do(t, "PING"), "-BUSY") })
	for range 2 {
		wantPrefix(t, c, "-BUSY ", guarded("INCR", "n")...)
	}
	s.redis.Do(t, "SCRIPT", "KILL")
	other.Reply(t)
	clean(t, s.redis, c)
	want(t, c, ":1\r\n", guarded("INCR", "n")...)
}

func TestGuardBesideTheClientsOwnTransactions(t *testing.T) {
	s := startStage(t)
	c := s.proxy.Dial(t)
	const refused = "-ERR KS.GUARD is not allowed while keys are watched\r\n"
	ends := [][]string{{"UNWATCH"}, {"MULTI", "EXEC"}, {"MULTI", "DISCARD"}, {"MULTI", "nosuch", "EXEC"}, {"RESET"}, {"EXEC x"}}
	for _, end := range ends {
		want(t, c, "+OK\r\n", "WATCH", "w")
		want(t, c, refused, guarded("INCR", "n")...)
		for _, command := range end {
			c.Do(t, words(command)...)
		}
		wantPrefix(t, c, ":", guarded("INCR", "n")...)
	}
	// The refusal has left the WATCH as it was.
	want(t, c, "+OK\r\n", "WATCH", "w")
	want(t, c, refused, guarded("INCR", "n")...)
	s.redis.Do(t, "SET", "w", "x")
	want(t, c, "+OK\r\n", "MULTI")
	want(t, c, "*-1\r\n", "EXEC")

	want(t, c, "+OK\r\n", "MULTI")
	wantPrefix(t, c, "-ERR unknown command", guarded("INCR", "n")...)
	wantPrefix(t, c, "-EXECABORT ", "EXEC")
	want(t, c, fmt.Sprintf("$1\r\n%d\r\n", len(ends)), "GET", "n")
}

func TestGuardWhereverItStands(t *testing.T) {
	s := startStage(t)
	c := s.proxy.Dial(t)
	guard := harness.Command(guarded("INCR", "n")...)
	c.Send(t, "CLIENT REPLY OFF\r\n"+guard+guard+"CLIENT REPLY ON\r\nGET n\r\n")
	c.Want(t, "+OK\r\n")
	c.Want(t, "$1\r\n2\r\n")
	c.Send(t, "CLIENT REPLY SKIP\r\n"+guard+guard+"GET n\r\n")
	c.Want(t, ":4\r\n")
	c.Want(t, "$1\r\n4\r\n")
	c.Send(t, "SET n 10\r\nks.guard job:1 t incr n\r\nINCR n\r\n"+guard+"GET n\r\n") // inline, in a pipeline
	for _, reply := range []string{"+OK\r\n", ":11\r\n", ":12\r\n", ":13\r\n", "$2\r\n13\r\n"} {
		c.Want(t, reply)
	}
	want(t, c, "+OK\r\n", "SELECT", "3")
	want(t, c, lost, guarded("INCR", "n")...)
	want(t, c, "+OK\r\n", "SET", key, token)
	want(t, c, ":1\r\n", guarded("INCR", "n")...)
	want(t, c, "-ERR KS.GUARD can't run 'subscribe': it changes the connection, or answers other than once\r\n", guarded("subscribe", "x")...)
	wantPrefix(t, c, "*3\r\n$9\r\nsubscribe\r\n", "SUBSCRIBE", "x")
	wantPrefix(t, c, "-ERR Can't execute 'ks.guard': only (P|S)SUBSCRIBE", guarded("INCR", "n")...)
}

// A lock that is renewed a thousand times a second guards all the same.
func TestGuardAmongRenewals(t *testing.T) {
	s := startStage(t)
	stop := make(chan struct{})
	var renewing sync.WaitGroup
	renewing.Go(func() {
		c, err := harness.TryDial(s.redis.Addr)
		if err != nil {
			return
		}
		defer c.Close()
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		for {
			select {
			case <-stop:
				return
			case <-pace.C:
				c.Write([]byte(harness.Command("PEXPIRE", key, "60000")))
			}
		}
	})
	c := s.proxy.Dial(t)
	for i := range 1000 {
		want(t, c, fmt.Sprintf(":%d\r\n", i+1), guarded("INCR", "n")...)
	}
	close(stop)
	renewing.Wait()
}

// Holders that read, and write what they read plus one, with leases so short that they run
// out in between: no write is lost, for each that was accepted counts.
func TestNoAcceptedWriteIsLostThoughLeasesRunOut(t *testing.T) {
	s := startStage(t)
	s.redis.Do(t, "DEL", key)
	const holders, rounds = 6, 60
	accepted, refused := make([]int, holders), make([]int, holders)
	var all sync.WaitGroup
	for i := range holders {
		c := s.proxy.Dial(t)
		all.Go(func() {
			for range rounds {
				reply := strings.Split(c.Do(t, "KS.LOCK", name, "PX", "2"), "\r\n")
				if len(reply) < 3 {
					t.Errorf("KS.LOCK replies %q", reply)
					return
				}
				n := 0
				if read := strings.Split(c.Do(t, "GET", "sum"), "\r\n"); len(read) > 1 {
					n, _ = strconv.Atoi(read[1])
				}
				switch reply := c.Do(t, "KS.GUARD", name, reply[2], "SET", "sum", strconv.Itoa(n+1)); {
				case reply == "+OK\r\n":
					accepted[i]++
				case reply == lost:
					refused[i]++
				default:
					t.Errorf("KS.GUARD replies %q", reply)
				}
			}
		})
	}
	all.Wait()
	sum, lostOnes := 0, 0
	for i := range holders {
		sum += accepted[i]
		lostOnes += refused[i]
	}
	t.Logf("%d writes accepted, %d refused", sum, lostOnes)
	if got, want := s.redis.Do(t, "GET", "sum"), strconv.Itoa(sum); sum == 0 || !strings.HasSuffix(got, "\r\n"+want+"\r\n") {
		t.Errorf("the sum is %q after %s accepted writes", got, want)
	}
}
