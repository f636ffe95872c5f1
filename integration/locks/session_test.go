package locks

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// sessionTTL is ks-lock-ttl of these tests, the least there is: SESSION locks are renewed every third of it.
const sessionTTL = time.Second

var sessions = stage.Setup{Args: []string{"--ks-lock-ttl", "1000"}}

var sessionScenes = []stage.Scene{
	{Name: "are released at the end of the connection", Run: sessionEnds},
	{Name: "are released at RESET", Run: sessionReset},
	{Name: "are renewed past their TTL", Run: sessionRenewed},
	{Name: "that are gone are told", Run: sessionLost},
	{Name: "are given back like others", Run: sessionUnlocked},
	{Name: "become leases when asked for with PX", Run: sessionBecomesLease},
	{Name: "a lease whose length is not named has that of ks-lock-ttl", Run: defaultLease},
	{Name: "what KS.MLOCK has is renewed while it waits for the rest", Run: mlockRenews},
}

func TestSessionLocksOnOneProxy(t *testing.T) {
	stage.Setup{Proxies: 1, Args: sessions.Args}.Play(t, sessionScenes)
}

func TestSessionLocksOnThreeProxies(t *testing.T) {
	stage.Setup{Proxies: 3, Args: sessions.Args}.Play(t, sessionScenes)
}

func sessionEnds(t *testing.T, s *stage.Stage) {
	const name = "ends:1"
	ways := []struct {
		name string
		end  func(*stage.Client)
	}{
		{"close", func(c *stage.Client) { c.Close() }},
		{"FIN", func(c *stage.Client) { c.CloseWrite(t) }},
		{"RST", func(c *stage.Client) { c.Reset(t) }},
		{"QUIT", func(c *stage.Client) { c.Ask("QUIT") }},
		{"CLIENT KILL of its lane", func(c *stage.Client) { s.KillPeer(t, s.Named(t, "session-ends")) }},
	}
	for _, way := range ways {
		for proxy := range s.Proxies {
			holder := s.Client(t, 0)
			holder.Expect("OK", "CLIENT", "SETNAME", "session-ends")
			g := holder.Lock(name, "SESSION")
			w := s.Join(t, proxy, name, "EX", "30")
			began := time.Now()
			way.end(holder)
			next := w.Granted()
			stage.Took(t, "the next was granted after "+way.name, began, 100*time.Millisecond, time.Second)
			if next.Fence <= g.Fence {
				t.Fatalf("%+v after %+v", next, g)
			}
			w.Unlocks()
			if way.name == "FIN" {
				holder.AwaitEnd(t)
			}
		}
	}

	// All locks of a connection go, in all databases, and the promises; leases and others' stay.
	holder, other := s.Client(t, 0), s.Client(t, 0)
	holder.Lock("ends:2", "SESSION")
	holder.Generate("ends:3", "SESSION")
	lease := holder.Lock("ends:4", "EX", "30")
	kept := other.Lock("ends:5", "SESSION")
	holder.Expect("OK", "SELECT", "2")
	holder.Lock("ends:2", "SESSION")
	holder.Close()
	look := s.Client(t, 1)
	look.Expect("OK", "SELECT", "2")
	s.AwaitFree(t, "ends:2")
	s.AwaitFree(t, "ends:3")
	stage.Eventually(t, "the lock in the other database is free", func() bool {
		return look.Call("EXISTS", stage.KeyOf("ends:2", "lock")) == int64(0)
	})
	if s.Owner(t, "ends:4") != lease.Token || s.Owner(t, "ends:5") != kept.Token {
		t.Error("a lease, or what another connection has, was released")
	}
	look.Expect("OK", "SELECT", "0")
	look.Unlock("ends:4", lease)
	other.Unlock("ends:5", kept)
}

func sessionReset(t *testing.T, s *stage.Stage) {
	const name = "reset:1"
	holder := s.Client(t, 0)
	g := holder.Lock(name, "SESSION")
	w := s.Join(t, 1, name)
	began := time.Now()
	holder.Expect("RESET", "RESET")
	next := w.Granted()
	stage.Took(t, "the next was granted after RESET", began, 100*time.Millisecond, time.Second)
	if next.Fence <= g.Fence {
		t.Fatalf("%+v after %+v", next, g)
	}
	w.Unlocks()
	// What is sent behind the RESET comes after the release.
	holder.Lock(name, "SESSION")
	holder.Send(t, harness.Command("RESET")+harness.Command("KS.LOCK", name, "NOWAIT", "SESSION"))
	if got := holder.Next(); got != "RESET" {
		t.Fatalf("RESET answers %#v", got)
	}
	again, err := stage.AsGrant(holder.Next())
	if err != nil {
		t.Fatalf("behind a RESET: %v", err)
	}
	holder.Unlock(name, again)
}

func sessionRenewed(t *testing.T, s *stage.Stage) {
	const name = "renewed:1"
	holder := s.Client(t, 0)
	g := holder.Lock(name, "SESSION")
	p := holder.Generate("renewed:2", "SESSION")
	w := s.Join(t, 1, name)
	began := time.Now()
	least := sessionTTL
	for time.Since(began) < 3200*time.Millisecond { // it is what is tested: time goes by
		ttl := time.Duration(s.Must(t, "PTTL", stage.KeyOf(name, "lock")).(int64)) * time.Millisecond
		least = min(least, ttl)
		if s.Owner(t, name) != g.Token || s.Owner(t, "renewed:2") != p.Token {
			t.Fatalf("lost after %v", time.Since(began))
		}
		time.Sleep(20 * time.Millisecond) // the next look
	}
	t.Logf("least TTL of a SESSION lock: %v of %v", least, sessionTTL)
	w.Silent("the lock is held")
	holder.Expect(int64(1), "KS.EXTEND", name, g.Token, "PX", "1") // stays as it is
	if ttl, _ := s.Must(t, "PTTL", stage.KeyOf(name, "lock")).(int64); ttl < 100 {
		t.Errorf("KS.EXTEND has cut the TTL of a SESSION lock to %d ms", ttl)
	}
	holder.Unlock(name, g)
	w.Granted()
	w.Unlocks()
	holder.Expect(int64(1), "KS.RESOLVE", "renewed:2", p.Token, "v", "PX", "1")
}

func sessionLost(t *testing.T, s *stage.Stage) {
	const slack = 2 * time.Second
	ways := []struct {
		name string
		lose func(name string)
	}{
		{"deleted", func(name string) { s.Must(t, "DEL", stage.KeyOf(name, "lock")) }},
		{"replaced", func(name string) { s.Must(t, "SET", stage.KeyOf(name, "lock"), "a stranger's", "PX", "1500") }},
	}
	for i, way := range ways {
		for _, proto := range []string{"2", "3"} {
			name := "lost:" + way.name + proto
			channel := stage.KeyOf(name, "locklost")
			listener := s.Dial(t)
			listener.Do(t, "SUBSCRIBE", channel)
			holder := s.Client(t, i)
			holder.Call("HELLO", proto)
			g := holder.Lock(name, "SESSION")
			began := time.Now()
			way.lose(name)
			news := stage.Parse(t, listener.Reply(t))
			if !slices.Equal(news.([]any), []any{"message", channel, g.Token}) {
				t.Fatalf("the news is %#v", news)
			}
			stage.Took(t, "a lock that was "+way.name+" was told", began, sessionTTL/3, sessionTTL/3+slack)
			if proto == "3" {
				if push := holder.Reply(t); push != pushOf("ks.lost", name, g.Token) {
					t.Fatalf("the push is %q", push)
				}
				stage.Took(t, "a lock that was "+way.name+" was pushed", began, sessionTTL/3, sessionTTL/3+slack)
			}
			holder.Expect("PONG", "PING") // RESP2 clients see no push
			holder.Expect(int64(0), "KS.UNLOCK", name, g.Token)
			s.AwaitFree(t, name)
			listener.Close()
		}
	}

	// A waiter that is granted late is told like one that was granted at once; one that gave its
	// lock back, or lost its lease, is told nothing.
	listener := s.Dial(t)
	listener.Do(t, "SUBSCRIBE", stage.KeyOf("lost:1", "locklost"))
	holder := s.Client(t, 0)
	holder.Unlock("lost:1", holder.Lock("lost:1", "SESSION"))
	g := holder.Lock("lost:1", "SESSION")
	w := s.Join(t, 1, "lost:1", "SESSION")
	s.Client(t, 1).Unlock("lost:1", g) // by somebody else, with the token
	w.Granted()
	s.Must(t, "DEL", stage.KeyOf("lost:1", "lock"))
	news := stage.Parse(t, listener.Reply(t))
	if !slices.Equal(news.([]any), []any{"message", stage.KeyOf("lost:1", "locklost"), w.Token}) {
		t.Fatalf("the first news is %#v, want that %s lost the lock", news, w.Token)
	}
}

// pushOf is a RESP3 push of bulk strings.
func pushOf(elements ...string) string {
	return ">" + strings.TrimPrefix(harness.Command(elements...), "*")
}

func sessionUnlocked(t *testing.T, s *stage.Stage) {
	const name = "givenback:1"
	holder := s.Client(t, 0)
	g := holder.Lock(name, "SESSION")
	w := s.Join(t, 1, name, "SESSION")
	s.Client(t, 1).Unlock(name, g) // any connection may
	w.Granted()
	w.Expect(int64(1), "KS.UNLOCK", name)
	w2 := s.Client(t, 1)
	lease := w2.Lock(name, "EX", "30")
	w.Close() // releases nothing: its lock is given back
	holder.Close()
	s.AwaitClosed(t, w.Client)
	s.AwaitClosed(t, holder)
	w2.Expect(int64(1), "KS.EXTEND", name, lease.Token, "EX", "20")
	w2.Unlock(name, lease)
}

func TestSessionLockOfADeadProxyRunsOut(t *testing.T) {
	stage.OnOneAndThree(t, "the proxy is killed", func(t *testing.T, proxies int) {
		s := stage.Setup{Proxies: proxies, Args: sessions.Args}.Start(t)
		const name = "dead:1"
		s.Client(t, 0).Lock(name, "SESSION")
		var w *stage.Waiter
		if proxies > 1 {
			w = s.Join(t, 1, name)
		}
		s.Proxies[0].Kill(t)
		died := time.Now()
		if w != nil {
			w.Granted()
		} else {
			s.AwaitFree(t, name)
		}
		stage.Took(t, "the lock of a dead proxy ran out", died, sessionTTL+100*time.Millisecond, sessionTTL+2*time.Second)
		if w != nil {
			w.Unlocks()
		}
		s.WithinAMinute(t)
	})
}

func TestSessionLocksAreReleasedWhenAProxyStops(t *testing.T) {
	t.Parallel()
	s := stage.Setup{}.Start(t) // the TTL is 30 s
	const name = "stops:1"
	s.Client(t, 0).Lock(name, "SESSION")
	w, dropped := s.Join(t, 1, name), s.Join(t, 0, name)
	began := time.Now()
	s.Proxies[0].Signal(t, syscall.SIGTERM)
	w.Granted()
	stage.Took(t, "the lock of a proxy that stops was released", began, 4*time.Second, 5*time.Second)
	if got, ok := dropped.Next().(stage.Refusal); !ok || !strings.HasPrefix(string(got), "KSUNAVAILABLE ") {
		t.Fatalf("a waiter of a proxy that stops is answered %#v", got)
	}
	if code := s.Proxies[0].WaitExit(t, harness.Patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
	s.AwaitLine(t, name, 0)
	w.Unlocks()
}

func TestSessionLockIsLostWhenRedisIsAwayForLonger(t *testing.T) {
	stage.OnOneAndThree(t, "the proxy's own connections stall", redisIsAway)
}

func redisIsAway(t *testing.T, proxies int) {
	s := stage.Setup{Proxies: proxies, Relayed: true, Args: sessions.Args}.Start(t)
	const name = "away:1"
	holder := s.Client(t, 0)
	holder.Call("HELLO", "3")
	g := holder.Lock(name, "SESSION")
	w := s.Join(t, 1, name)
	for _, l := range s.Relays[0].Links() {
		if s.IsOwn(t, l) {
			l.Stall()
		}
	}
	s.Relays[0].Refuse(true)
	began := time.Now()
	if push := holder.Reply(t); push != pushOf("ks.lost", name, g.Token) {
		t.Fatalf("the push is %q", push)
	}
	stage.Took(t, "the loss was pushed", began, sessionTTL, sessionTTL+2*time.Second)
	w.Granted()
	stage.Took(t, "the next was granted", began, sessionTTL+100*time.Millisecond, sessionTTL+2*time.Second)
	w.Unlocks()
	s.Relays[0].Refuse(false)
}

func TestALossOfAllDataIsTold(t *testing.T) {
	stage.OnOneAndThree(t, "all data is flushed", func(t *testing.T, proxies int) {
		s := stage.Setup{Proxies: proxies, Args: sessions.Args}.Start(t)
		listener := s.Dial(t)
		listener.Do(t, "SUBSCRIBE", stage.KeyOf("lost:all", "locklost"))
		holder := s.Client(t, 0)
		holder.Call("HELLO", "3")
		g := holder.Lock("lost:all", "SESSION")
		s.Must(t, "FLUSHALL")
		began := time.Now()
		if push := holder.Reply(t); push != pushOf("ks.lost", "lost:all", g.Token) {
			t.Fatalf("the push is %q", push)
		}
		news := stage.Parse(t, listener.Reply(t))
		if !slices.Equal(news.([]any), []any{"message", stage.KeyOf("lost:all", "locklost"), g.Token}) {
			t.Fatalf("the news is %#v", news)
		}
		stage.Took(t, "the loss of all data was told", began, sessionTTL/3, sessionTTL/3+3*time.Second)
		holder.Expect(int64(0), "KS.UNLOCK", "lost:all", g.Token)
		s.NothingLeft(t)
	})
}
