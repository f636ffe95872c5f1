package locks

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

func TestProxiesWithDifferentTagSplit(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Proxies: 1}.Start(t)
	other := harness.StartProxyWith(t, harness.ProxyOptions{Upstream: s.URL(), Args: []string{"--ks-tag-split", "last"}})
	same := harness.StartProxyWith(t, harness.ProxyOptions{Upstream: s.URL(), Args: []string{"--ks-tag-split", "first"}})
	c := stage.Dial(t, other)
	for _, args := range [][]string{
		{"KS.LOCK", "a:b:c"},
		{"KS.UNLOCK", "a:b:c", "token"},
		{"KS.MEMO", "a:b:c"},
		{"KS.RESOLVE", "a:b:c", "token", "v"},
		{"KS.REJECT", "a:b:c", "token", "m"},
		{"KS.EXTEND", "a:b:c", "token", "PX", "1"},
		{"KS.STATUS", "a:b:c"},
	} {
		got, ok := c.Call(args...).(stage.Refusal)
		if !ok || !strings.HasPrefix(string(got), "KSUNAVAILABLE ") || !strings.Contains(string(got), "ks-tag-split") {
			t.Errorf("%q answers %#v", args, got)
		}
	}
	c.Expect("PONG", "PING") // all else works
	for _, p := range []*harness.Proxy{s.Proxies[0], same} {
		c := stage.Dial(t, p)
		c.Unlock("a:b:c", c.Lock("a:b:c"))
	}
	if ttl, _ := s.Must(t, "PTTL", "ks/config:tag-split").(int64); ttl <= 0 {
		t.Errorf("ks/config:tag-split has the TTL %d", ttl)
	}
}

func TestAFullRedis(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Redis: []string{"--maxmemory-policy", "noeviction"}}.Start(t)
	const name = "full:1"
	holder := s.Client(t, 0)
	g := holder.Lock(name)
	waiters := []*stage.Waiter{s.Join(t, 0, name), s.Join(t, 1, name)}
	session := s.Client(t, 1)
	session.Lock("full:2", "SESSION")
	promise := holder.Generate("full:3")
	leaving := s.Join(t, 1, name)
	newcomer := s.Client(t, 1)
	s.Must(t, "CONFIG", "SET", "maxmemory", "1")
	keys := len(s.Words(t, "KEYS", "*"))

	newcomer.ExpectRefusal("OOM ", "KS.LOCK", "full:new")
	newcomer.ExpectRefusal("OOM ", "KS.LOCK", name, "WAIT", "1000")
	newcomer.ExpectRefusal("OOM ", "KS.MEMO", "full:new")
	newcomer.ExpectRefusal("OOM ", "KS.RESOLVE", "full:3", promise.Token, "v")
	if now := s.Words(t, "KEYS", "*"); len(now) != keys {
		t.Errorf("refused calls have left something behind: %q", now)
	}
	leaving.Close()
	s.AwaitLine(t, name, 2)
	newcomer.Expect(int64(1), "KS.EXTEND", name, g.Token, "EX", "20")
	holder.Unlock(name, g)
	stage.InTurn(t, waiters, g.Fence)
	session.Close()
	s.AwaitFree(t, "full:2")
	holder.Expect(int64(1), "KS.UNLOCK", "full:3", promise.Token)
	s.Must(t, "CONFIG", "SET", "maxmemory", "0")
	newcomer.Unlock("full:new", newcomer.Lock("full:new"))
	s.NothingLeft(t)
}

func TestScriptsAreFlushedAndClientsPausedInBetween(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Args: sessions.Args}.Start(t)
	const name = "flushed:1"
	holder := s.Client(t, 0)
	interrupt := func(i int) {
		if i%2 == 0 {
			s.Must(t, "SCRIPT", "FLUSH")
		} else {
			s.Must(t, "CLIENT", "PAUSE", "150", "WRITE")
		}
	}
	for i := range 4 {
		interrupt(i)
		g := holder.Lock(name, "EX", "30")
		waiters := []*stage.Waiter{s.Join(t, 0, name, "EX", "30"), s.Join(t, 1, name, "EX", "30")}
		leaving := s.Join(t, 1, name)
		interrupt(i)
		leaving.Close()
		s.AwaitLine(t, name, 2)
		interrupt(i)
		holder.Expect(int64(1), "KS.EXTEND", name, g.Token, "EX", "20")
		interrupt(i)
		holder.Unlock(name, g)
		stage.InTurn(t, waiters, g.Fence)

		memo := fmt.Sprintf("flushed:memo%d", i)
		interrupt(i)
		p := holder.Generate(memo)
		w := s.JoinMemo(t, 1, memo)
		interrupt(i)
		if i < 2 {
			holder.Expect(int64(1), "KS.RESOLVE", memo, p.Token, "v", "PX", "2000")
			stage.WantValue(t, w.Next(), "v")
		} else {
			holder.Expect(int64(1), "KS.REJECT", memo, p.Token, "m", "PX", "2000")
			if got := w.Next(); got != stage.Refusal("MEMOERR m") {
				t.Fatalf("a waiter was answered %#v", got)
			}
		}
		interrupt(i)
		holder.Status(name)
		session := s.Client(t, i%2)
		interrupt(i)
		session.Lock("flushed:2", "SESSION")
		interrupt(i)
		began := time.Now()
		session.Close()
		s.AwaitFree(t, "flushed:2")
		stage.Took(t, "a SESSION lock was released", began, 250*time.Millisecond, 1500*time.Millisecond)
	}
	s.NothingLeft(t)
}

func TestKeysOfAWrongType(t *testing.T) {
	t.Parallel()
	s := stage.Setup{}.Start(t)
	c := s.Client(t, 0)
	for _, what := range []string{"lock", "lockwaiting", "lockwaitingset", "fence", "value", "error", "stale"} {
		name := "wrong:" + what
		key := stage.KeyOf(name, what)
		if what == "value" {
			key = name
		}
		switch what {
		case "lock", "value", "error", "stale":
			s.Must(t, "RPUSH", key, "x")
		default:
			s.Must(t, "SET", key, "x")
		}
		before := s.Dump(t)
		calls := [][]string{{"KS.LOCK", name}, {"KS.LOCK", name, "NOWAIT"}, {"KS.LOCK", name, "SESSION", "TOKEN", "t"}}
		switch what {
		case "value", "error", "stale":
			calls = [][]string{{"KS.MEMO", name}, {"KS.MEMO", name, "NOWAIT"}, {"KS.FORGET", name}}
		case "lock":
			calls = append(calls, []string{"KS.UNLOCK", name, "x"}, []string{"KS.EXTEND", name, "x", "EX", "5"},
				[]string{"KS.MEMO", name}, []string{"KS.RESOLVE", name, "x", "v"}, []string{"KS.REJECT", name, "x", "m"},
				[]string{"KS.STATUS", name})
		}
		for _, call := range calls {
			c.ExpectRefusal("WRONGTYPE ", call...)
		}
		if now := s.Dump(t); now != before {
			t.Errorf("%s: refused calls have changed Redis from\n%s\nto\n%s", key, before, now)
		}
	}

	// While the lock is held: who can't release or store must not do half of it.
	for _, what := range []string{"lockwaiting", "lockwaitingset", "fence", "value"} {
		name := "wrong:held" + what
		promise := c.Generate(name, "EX", "30")
		key := stage.KeyOf(name, what)
		if what == "value" {
			key = name
			s.Must(t, "RPUSH", key, "x")
		} else {
			s.Must(t, "SET", key, "x")
		}
		before := s.Dump(t)
		if what != "value" {
			c.ExpectRefusal("WRONGTYPE ", "KS.UNLOCK", name, promise.Token)
		}
		c.ExpectRefusal("WRONGTYPE ", "KS.RESOLVE", name, promise.Token, "v")
		if now := s.Dump(t); now != before {
			t.Errorf("%s: refused calls have changed Redis from\n%s\nto\n%s", key, before, now)
		}
		s.Must(t, "DEL", key)
		if what == "fence" { // who has the promise was in it
			s.Must(t, "DEL", stage.KeyOf(name, "lock"))
			continue
		}
		c.Unlock(name, promise)
	}
	withoutWrong(t, s)
}

// withoutWrong removes what the test has put there and checks that nothing else is.
func withoutWrong(t *testing.T, s *stage.Stage) {
	t.Helper()
	for _, what := range []string{"lock", "lockwaiting", "lockwaitingset", "fence", "error", "stale"} {
		s.Must(t, "DEL", stage.KeyOf("wrong:"+what, what))
	}
	s.Must(t, "DEL", "wrong:value")
	s.NothingLeft(t)
}
