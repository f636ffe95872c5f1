package locks

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// sessionTTL is ks-lock-ttl of these tests, the least there is: SESSION locks are renewed every third of it.
const sessionTTL = time.Second

var sessions = setup{args: []string{"--ks-lock-ttl", "1000"}}

func TestSessionLocks(t *testing.T) {
	t.Parallel()
	s := sessions.start(t)
	t.Run("with a TTL of a second", func(t *testing.T) {
		for _, c := range []struct {
			name string
			run  func(*testing.T, *stage)
		}{
			{"are released at the end of the connection", sessionEnds},
			{"are released at RESET", sessionReset},
			{"are renewed past their TTL", sessionRenewed},
			{"that are gone are told", sessionLost},
			{"are given back like others", sessionUnlocked},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, s)
			})
		}
	})
	s.nothingLeft(t)
}

func sessionEnds(t *testing.T, s *stage) {
	const name = "ends:1"
	ways := []struct {
		name string
		end  func(*client)
	}{
		{"close", func(c *client) { c.Close() }},
		{"FIN", func(c *client) { c.CloseWrite(t) }},
		{"RST", func(c *client) { c.Reset(t) }},
		{"QUIT", func(c *client) { c.ask("QUIT") }},
		{"CLIENT KILL of its lane", func(c *client) { s.kill(t, s.named(t, "session-ends")) }},
	}
	for _, way := range ways {
		for proxy := range s.proxies {
			holder := s.client(t, 0)
			holder.want("OK", "CLIENT", "SETNAME", "session-ends")
			g := holder.lock(name, "SESSION")
			w := s.join(t, proxy, name, "EX", "30")
			began := time.Now()
			way.end(holder)
			next := w.granted()
			took(t, "the next was granted after "+way.name, began, 100*time.Millisecond, time.Second)
			if next.fence <= g.fence {
				t.Fatalf("%+v after %+v", next, g)
			}
			w.unlocks()
			if way.name == "FIN" {
				holder.AwaitEnd(t)
			}
		}
	}

	// All locks of a connection go, in all databases, and the promises; leases and others' stay.
	holder, other := s.client(t, 0), s.client(t, 0)
	holder.lock("ends:2", "SESSION")
	holder.generate("ends:3", "SESSION")
	lease := holder.lock("ends:4", "EX", "30")
	kept := other.lock("ends:5", "SESSION")
	holder.want("OK", "SELECT", "2")
	holder.lock("ends:2", "SESSION")
	holder.Close()
	look := s.client(t, 1)
	look.want("OK", "SELECT", "2")
	s.awaitFree(t, "ends:2")
	s.awaitFree(t, "ends:3")
	eventually(t, "the lock in the other database is free", func() bool {
		return look.do("EXISTS", keyOf("ends:2", "lock")) == int64(0)
	})
	if s.owner(t, "ends:4") != lease.token || s.owner(t, "ends:5") != kept.token {
		t.Error("a lease, or what another connection has, was released")
	}
	look.want("OK", "SELECT", "0")
	look.unlock("ends:4", lease)
	other.unlock("ends:5", kept)
}

func sessionReset(t *testing.T, s *stage) {
	const name = "reset:1"
	holder := s.client(t, 0)
	g := holder.lock(name, "SESSION")
	w := s.join(t, 1, name)
	began := time.Now()
	holder.want("RESET", "RESET")
	next := w.granted()
	took(t, "the next was granted after RESET", began, 100*time.Millisecond, time.Second)
	if next.fence <= g.fence {
		t.Fatalf("%+v after %+v", next, g)
	}
	w.unlocks()
	// What is sent behind the RESET comes after the release.
	holder.lock(name, "SESSION")
	holder.Send(t, harness.Command("RESET")+harness.Command("KS.LOCK", name, "NOWAIT", "SESSION"))
	if got := holder.next(); got != "RESET" {
		t.Fatalf("RESET answers %#v", got)
	}
	again, err := asGrant(holder.next())
	if err != nil {
		t.Fatalf("behind a RESET: %v", err)
	}
	holder.unlock(name, again)
}

func sessionRenewed(t *testing.T, s *stage) {
	const name = "renewed:1"
	holder := s.client(t, 0)
	g := holder.lock(name, "SESSION")
	p := holder.generate("renewed:2", "SESSION")
	w := s.join(t, 1, name)
	began := time.Now()
	least := sessionTTL
	for time.Since(began) < 3200*time.Millisecond { // it is what is tested: time goes by
		ttl := time.Duration(s.must(t, "PTTL", keyOf(name, "lock")).(int64)) * time.Millisecond
		least = min(least, ttl)
		if s.owner(t, name) != g.token || s.owner(t, "renewed:2") != p.token {
			t.Fatalf("lost after %v", time.Since(began))
		}
		time.Sleep(20 * time.Millisecond) // the next look
	}
	t.Logf("least TTL of a SESSION lock: %v of %v", least, sessionTTL)
	w.silent("the lock is held")
	holder.want(int64(1), "KS.EXTEND", name, g.token, "PX", "1") // stays as it is
	if ttl, _ := s.must(t, "PTTL", keyOf(name, "lock")).(int64); ttl < 100 {
		t.Errorf("KS.EXTEND has cut the TTL of a SESSION lock to %d ms", ttl)
	}
	holder.unlock(name, g)
	w.granted()
	w.unlocks()
	holder.want(int64(1), "KS.RESOLVE", "renewed:2", p.token, "v", "PX", "1")
}

func sessionLost(t *testing.T, s *stage) {
	const slack = 2 * time.Second
	ways := []struct {
		name string
		lose func(name string)
	}{
		{"deleted", func(name string) { s.must(t, "DEL", keyOf(name, "lock")) }},
		{"replaced", func(name string) { s.must(t, "SET", keyOf(name, "lock"), "a stranger's", "PX", "1500") }},
	}
	for i, way := range ways {
		for _, proto := range []string{"2", "3"} {
			name := "lost:" + way.name + proto
			channel := keyOf(name, "locklost")
			listener := s.Dial(t)
			listener.Do(t, "SUBSCRIBE", channel)
			holder := s.client(t, i)
			holder.do("HELLO", proto)
			g := holder.lock(name, "SESSION")
			began := time.Now()
			way.lose(name)
			news := parse(t, listener.Reply(t))
			if !slices.Equal(news.([]any), []any{"message", channel, g.token}) {
				t.Fatalf("the news is %#v", news)
			}
			took(t, "a lock that was "+way.name+" was told", began, sessionTTL/3, sessionTTL/3+slack)
			if proto == "3" {
				if push := holder.Reply(t); push != pushOf("ks.lost", name, g.token) {
					t.Fatalf("the push is %q", push)
				}
				took(t, "a lock that was "+way.name+" was pushed", began, sessionTTL/3, sessionTTL/3+slack)
			}
			holder.want("PONG", "PING") // RESP2 clients see no push
			holder.want(int64(0), "KS.UNLOCK", name, g.token)
			s.awaitFree(t, name)
			listener.Close()
		}
	}

	// A waiter that is granted late is told like one that was granted at once; one that gave its
	// lock back, or lost its lease, is told nothing.
	listener := s.Dial(t)
	listener.Do(t, "SUBSCRIBE", keyOf("lost:1", "locklost"))
	holder := s.client(t, 0)
	holder.unlock("lost:1", holder.lock("lost:1", "SESSION"))
	g := holder.lock("lost:1", "SESSION")
	w := s.join(t, 1, "lost:1", "SESSION")
	s.client(t, 1).unlock("lost:1", g) // by somebody else, with the token
	w.granted()
	s.must(t, "DEL", keyOf("lost:1", "lock"))
	news := parse(t, listener.Reply(t))
	if !slices.Equal(news.([]any), []any{"message", keyOf("lost:1", "locklost"), w.token}) {
		t.Fatalf("the first news is %#v, want that %s lost the lock", news, w.token)
	}
}

// pushOf is a RESP3 push of bulk strings.
func pushOf(elements ...string) string {
	return ">" + strings.TrimPrefix(harness.Command(elements...), "*")
}

func sessionUnlocked(t *testing.T, s *stage) {
	const name = "givenback:1"
	holder := s.client(t, 0)
	g := holder.lock(name, "SESSION")
	w := s.join(t, 1, name, "SESSION")
	s.client(t, 1).unlock(name, g) // any connection may
	w.granted()
	w.want(int64(1), "KS.UNLOCK", name)
	w2 := s.client(t, 1)
	lease := w2.lock(name, "EX", "30")
	w.Close() // releases nothing: its lock is given back
	holder.Close()
	s.awaitClosed(t, w.client)
	s.awaitClosed(t, holder)
	w2.want(int64(1), "KS.EXTEND", name, lease.token, "EX", "20")
	w2.unlock(name, lease)
}

func TestSessionLockOfADeadProxyRunsOut(t *testing.T) {
	t.Parallel()
	s := sessions.start(t)
	const name = "dead:1"
	s.client(t, 0).lock(name, "SESSION")
	w := s.join(t, 1, name)
	s.proxies[0].Kill(t)
	died := time.Now()
	w.granted()
	took(t, "the lock of a dead proxy ran out", died, sessionTTL+100*time.Millisecond, sessionTTL+time.Second)
	w.unlocks()
	s.withinAMinute(t)
}

func TestSessionLocksAreReleasedWhenAProxyStops(t *testing.T) {
	t.Parallel()
	s := setup{}.start(t) // the TTL is 30 s
	const name = "stops:1"
	s.client(t, 0).lock(name, "SESSION")
	w, dropped := s.join(t, 1, name), s.join(t, 0, name)
	began := time.Now()
	s.proxies[0].Signal(t, syscall.SIGTERM)
	w.granted()
	took(t, "the lock of a proxy that stops was released", began, 4*time.Second, 5*time.Second)
	if got, ok := dropped.next().(refusal); !ok || !strings.HasPrefix(string(got), "KSUNAVAILABLE ") {
		t.Fatalf("a waiter of a proxy that stops is answered %#v", got)
	}
	if code := s.proxies[0].WaitExit(t, harness.Patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
	s.awaitLine(t, name, 0)
	w.unlocks()
}

func TestSessionLockIsLostWhenRedisIsAwayForLonger(t *testing.T) {
	t.Parallel()
	s := setup{proxies: 2, relayed: true, args: sessions.args}.start(t)
	const name = "away:1"
	holder := s.client(t, 0)
	holder.do("HELLO", "3")
	g := holder.lock(name, "SESSION")
	w := s.join(t, 1, name)
	for _, l := range s.relays[0].Links() {
		if s.isOwn(t, l) {
			l.Stall()
		}
	}
	s.relays[0].Refuse(true)
	began := time.Now()
	if push := holder.Reply(t); push != pushOf("ks.lost", name, g.token) {
		t.Fatalf("the push is %q", push)
	}
	took(t, "the loss was pushed", began, sessionTTL, sessionTTL+2*time.Second)
	w.granted()
	took(t, "the next was granted", began, sessionTTL+100*time.Millisecond, sessionTTL+2*time.Second)
	w.unlocks()
	s.relays[0].Refuse(false)
}

// isOwn reports whether a link carries one of the proxies' own connections.
func (s *stage) isOwn(t testing.TB, l *harness.Link) bool {
	t.Helper()
	return slices.ContainsFunc(s.own(t, -1), func(p peer) bool { return p["addr"] == l.Addr })
}
