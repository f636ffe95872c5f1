package locks

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

func TestProxiesWithDifferentTagSplit(t *testing.T) {
	t.Parallel()
	s := setup{proxies: 1}.start(t)
	other := harness.StartProxyWith(t, harness.ProxyOptions{Upstream: s.URL(), Args: []string{"--ks-tag-split", "last"}})
	same := harness.StartProxyWith(t, harness.ProxyOptions{Upstream: s.URL(), Args: []string{"--ks-tag-split", "first"}})
	c := dial(t, other)
	for _, args := range [][]string{
		{"KS.LOCK", "a:b:c"},
		{"KS.UNLOCK", "a:b:c", "token"},
		{"KS.MEMO", "a:b:c"},
		{"KS.RESOLVE", "a:b:c", "token", "v"},
		{"KS.REJECT", "a:b:c", "token", "m"},
		{"KS.EXTEND", "a:b:c", "token", "PX", "1"},
		{"KS.STATUS", "a:b:c"},
	} {
		got, ok := c.do(args...).(refusal)
		if !ok || !strings.HasPrefix(string(got), "KSUNAVAILABLE ") || !strings.Contains(string(got), "ks-tag-split") {
			t.Errorf("%q answers %#v", args, got)
		}
	}
	c.want("PONG", "PING") // all else works
	for _, p := range []*harness.Proxy{s.proxies[0], same} {
		c := dial(t, p)
		c.unlock("a:b:c", c.lock("a:b:c"))
	}
	if ttl, _ := s.must(t, "PTTL", "ks/config:tag-split").(int64); ttl <= 0 {
		t.Errorf("ks/config:tag-split has the TTL %d", ttl)
	}
}

func TestAFullRedis(t *testing.T) {
	t.Parallel()
	s := setup{redis: []string{"--maxmemory-policy", "noeviction"}}.start(t)
	const name = "full:1"
	holder := s.client(t, 0)
	g := holder.lock(name)
	waiters := []*waiter{s.join(t, 0, name), s.join(t, 1, name)}
	session := s.client(t, 1)
	session.lock("full:2", "SESSION")
	promise := holder.generate("full:3")
	leaving := s.join(t, 1, name)
	newcomer := s.client(t, 1)
	s.must(t, "CONFIG", "SET", "maxmemory", "1")
	keys := len(s.words(t, "KEYS", "*"))

	newcomer.wantRefusal("OOM ", "KS.LOCK", "full:new")
	newcomer.wantRefusal("OOM ", "KS.LOCK", name, "WAIT", "1000")
	newcomer.wantRefusal("OOM ", "KS.MEMO", "full:new")
	newcomer.wantRefusal("OOM ", "KS.RESOLVE", "full:3", promise.token, "v")
	if now := s.words(t, "KEYS", "*"); len(now) != keys {
		t.Errorf("refused calls have left something behind: %q", now)
	}
	leaving.Close()
	s.awaitLine(t, name, 2)
	newcomer.want(int64(1), "KS.EXTEND", name, g.token, "EX", "20")
	holder.unlock(name, g)
	inTurn(t, waiters, g.fence)
	session.Close()
	s.awaitFree(t, "full:2")
	holder.want(int64(1), "KS.UNLOCK", "full:3", promise.token)
	s.must(t, "CONFIG", "SET", "maxmemory", "0")
	newcomer.unlock("full:new", newcomer.lock("full:new"))
	s.nothingLeft(t)
}

func TestScriptsAreFlushedAndClientsPausedInBetween(t *testing.T) {
	t.Parallel()
	s := setup{args: sessions.args}.start(t)
	const name = "flushed:1"
	holder := s.client(t, 0)
	interrupt := func(i int) {
		if i%2 == 0 {
			s.must(t, "SCRIPT", "FLUSH")
		} else {
			s.must(t, "CLIENT", "PAUSE", "150", "WRITE")
		}
	}
	for i := range 4 {
		interrupt(i)
		g := holder.lock(name, "EX", "30")
		waiters := []*waiter{s.join(t, 0, name, "EX", "30"), s.join(t, 1, name, "EX", "30")}
		leaving := s.join(t, 1, name)
		interrupt(i)
		leaving.Close()
		s.awaitLine(t, name, 2)
		interrupt(i)
		holder.want(int64(1), "KS.EXTEND", name, g.token, "EX", "20")
		interrupt(i)
		holder.unlock(name, g)
		inTurn(t, waiters, g.fence)

		memo := fmt.Sprintf("flushed:memo%d", i)
		interrupt(i)
		p := holder.generate(memo)
		w := s.joinMemo(t, 1, memo)
		interrupt(i)
		if i < 2 {
			holder.want(int64(1), "KS.RESOLVE", memo, p.token, "v", "PX", "2000")
			wantValue(t, w.next(), "v")
		} else {
			holder.want(int64(1), "KS.REJECT", memo, p.token, "m", "PX", "2000")
			if got := w.next(); got != refusal("MEMOERR m") {
				t.Fatalf("a waiter was answered %#v", got)
			}
		}
		interrupt(i)
		holder.fields(name)
		session := s.client(t, i%2)
		interrupt(i)
		session.lock("flushed:2", "SESSION")
		interrupt(i)
		began := time.Now()
		session.Close()
		s.awaitFree(t, "flushed:2")
		took(t, "a SESSION lock was released", began, 250*time.Millisecond, 1500*time.Millisecond)
	}
	s.nothingLeft(t)
}

func TestKeysOfAWrongType(t *testing.T) {
	t.Parallel()
	s := setup{}.start(t)
	c := s.client(t, 0)
	for _, what := range []string{"lock", "lockwaiting", "lockwaitingset", "fence", "value", "error"} {
		name := "wrong:" + what
		key := keyOf(name, what)
		if what == "value" {
			key = name
		}
		switch what {
		case "lock", "value", "error":
			s.must(t, "RPUSH", key, "x")
		default:
			s.must(t, "SET", key, "x")
		}
		before := s.dump(t)
		calls := [][]string{{"KS.LOCK", name}, {"KS.LOCK", name, "NOWAIT"}, {"KS.LOCK", name, "SESSION", "TOKEN", "t"}}
		switch what {
		case "value", "error":
			calls = [][]string{{"KS.MEMO", name}, {"KS.MEMO", name, "NOWAIT"}}
		case "lock":
			calls = append(calls, []string{"KS.UNLOCK", name, "x"}, []string{"KS.EXTEND", name, "x", "EX", "5"},
				[]string{"KS.MEMO", name}, []string{"KS.RESOLVE", name, "x", "v"}, []string{"KS.REJECT", name, "x", "m"},
				[]string{"KS.STATUS", name})
		}
		for _, call := range calls {
			c.wantRefusal("WRONGTYPE ", call...)
		}
		if now := s.dump(t); now != before {
			t.Errorf("%s: refused calls have changed Redis from\n%s\nto\n%s", key, before, now)
		}
	}

	// While the lock is held: who can't release or store must not do half of it.
	for _, what := range []string{"lockwaiting", "lockwaitingset", "fence", "value"} {
		name := "wrong:held" + what
		promise := c.generate(name, "EX", "30")
		key := keyOf(name, what)
		if what == "value" {
			key = name
			s.must(t, "RPUSH", key, "x")
		} else {
			s.must(t, "SET", key, "x")
		}
		before := s.dump(t)
		if what != "value" {
			c.wantRefusal("WRONGTYPE ", "KS.UNLOCK", name, promise.token)
		}
		c.wantRefusal("WRONGTYPE ", "KS.RESOLVE", name, promise.token, "v")
		if now := s.dump(t); now != before {
			t.Errorf("%s: refused calls have changed Redis from\n%s\nto\n%s", key, before, now)
		}
		s.must(t, "DEL", key)
		if what == "fence" { // who has the promise was in it
			s.must(t, "DEL", keyOf(name, "lock"))
			continue
		}
		c.unlock(name, promise)
	}
	s.withoutWrong(t)
}

// dump is all that Redis holds, TTLs left out.
func (s *stage) dump(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("%q", s.must(t, "EVAL", `
		local all = {}
		local keys = redis.call('KEYS', '*')
		table.sort(keys)
		for _, key in ipairs(keys) do
			all[#all + 1] = key
			all[#all + 1] = redis.call('DUMP', key)
		end
		return all`, "0"))
}

// withoutWrong removes what the test has put there and checks that nothing else is.
func (s *stage) withoutWrong(t *testing.T) {
	t.Helper()
	for _, what := range []string{"lock", "lockwaiting", "lockwaitingset", "fence", "error"} {
		s.must(t, "DEL", keyOf("wrong:"+what, what))
	}
	s.must(t, "DEL", "wrong:value")
	s.nothingLeft(t)
}
