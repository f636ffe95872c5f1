package keysmith

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/keysmith/recorded"
)

func (s *stage) holderDies(t *testing.T) {
	const name, expiration = "dies:1", 1500 * time.Millisecond
	p := s.process(t)
	began := time.Now()
	p.lock(name, expiration).granted()
	first, second := s.join(t, 0, name), s.join(t, 1, name)
	p.kill()
	first.granted()
	if d := time.Since(began); d < expiration {
		t.Errorf("granted %v after KeySmith had taken the lock for %v", d, expiration)
	}
	took(t, "the next was granted", began, expiration+100*time.Millisecond, expiration+5*time.Second)
	second.silent("the first has the lock")
	first.release()
	second.granted()
	second.release()
	s.onlyFences(t)
}

func (s *stage) holderOverstays(t *testing.T) {
	const name, expiration = "overstays:1", time.Second
	p := s.process(t)
	held := p.lock(name, expiration)
	w := s.join(t, 0, name, "EX", 60)
	w.granted()
	held.loss()
	<-held.over // it has released, as everyone does in the end
	if owner := s.owner(t, name); owner != w.token {
		t.Fatalf("the release of one who has lost it made the lock %q's", owner)
	}
	w.release()
	s.onlyFences(t)
}

func (s *stage) sessionEnds(t *testing.T) {
	const name = "session:1"
	p := s.process(t)
	holder := s.caller(t, 0)
	holder.lock(name, "SESSION")
	c, w := p.lock(name, lease), s.join(t, 1, name)
	began := time.Now()
	holder.c.Close()
	c.granted()
	took(t, "KeySmith was granted", began, 100*time.Millisecond, 5*time.Second)
	w.silent("KeySmith has the lock")
	c.release()
	w.granted()
	w.release()
	s.onlyFences(t)
}

func (s *stage) ourHolderDies(t *testing.T) {
	const name, ours = "ourdies:1", 1500 * time.Millisecond
	p := s.process(t)
	began := time.Now()
	g := s.caller(t, 0).lock(name, "PX", ours.Milliseconds())
	c, w := p.lock(name, lease), s.join(t, 1, name)
	c.granted()
	took(t, "KeySmith was granted, with one of ours behind", began, ours+100*time.Millisecond, ours+5*time.Second)
	s.inTurn(t, name, g.fence, c, w)

	// Alone it finds out when its own line has run out.
	const alone, expiration = "ourdies:2", time.Second
	s.caller(t, 0).lock(alone, "PX", 300)
	began = time.Now()
	c = p.lock(alone, expiration)
	c.granted()
	took(t, "KeySmith alone was granted", began, 2*expiration, 2*expiration+5*time.Second)
	c.release()
	s.onlyFences(t)
}

func (s *stage) barging(t *testing.T) {
	const name = "barge:1"
	p, holder := s.process(t), s.caller(t, 0)
	g := holder.lock(name, "EX", 60)
	w := s.join(t, 1, name)
	s.awaitPatterns(t, 1)
	barged := &call{process: p, id: "barges", keys: keysOf(name)}
	_, err := s.admin.TxPipelined(context.Background(), func(p redis.Pipeliner) error {
		p.Del(context.Background(), barged.keys.Lock) // the lease runs out
		p.Do(context.Background(), barged.command(recorded.Take, lease)...)
		return nil
	})
	if owner := s.owner(t, name); err != nil || owner != barged.id {
		t.Fatalf("the lock is %q's: %v", owner, err)
	}
	holder.want(int64(0), "KS.UNLOCK", name, g.token)
	holder.want(int64(0), "KS.EXTEND", name, g.token, "EX", 60)
	// Ours keeps its place, and asks in vain at least twice before its turn comes.
	s.awaitAsks(t, name, 2)
	w.silent("KeySmith has the lock")
	if line := s.line(t, name); len(line) != 1 || line[0] != w.token {
		t.Fatalf("in line are %v", line)
	}
	if owner := s.owner(t, name); owner != barged.id {
		t.Fatalf("the lock is %q's", owner)
	}
	began := time.Now()
	s.do(t, barged.command(recorded.Release, lease)...)
	s.inTurn(t, name, g.fence, w)
	took(t, "ours was granted", began, recheck, recheck+5*time.Second)
	s.onlyFences(t)
}

func (s *stage) noBarging(t *testing.T) {
	const name = "nobarge:1"
	p := s.process(t)
	s.caller(t, 0).lock(name, "EX", 60)
	c := p.lock(name, lease)
	s.do(t, "DEL", keysOf(name).Lock) // the lease runs out
	s.caller(t, 1).want(nil, "KS.LOCK", name, "NOWAIT")
	c.granted()
	if owner := s.owner(t, name); owner != c.id {
		t.Fatalf("the lock is %q's", owner)
	}
	c.release()
	s.onlyFences(t)
}

func (s *stage) hangUpAfterHandOff(t *testing.T) {
	const name, rounds = "hangup:1", 3
	p := s.process(t)
	for round := range rounds {
		held := p.lock(name, lease)
		held.granted()
		gone, next := s.join(t, round, name, "SESSION"), s.join(t, round+1, name)
		began := time.Now()
		held.release()
		gone.c.Close()
		next.granted()
		took(t, "the next was granted", began, recheck, recheck+8*time.Second)
		next.release()
	}
	s.onlyFences(t)
}

func (s *stage) theirHoldStands(t *testing.T) {
	const name, expiration = "theirs:1", 20 * time.Second
	p := s.process(t)
	began := time.Now()
	held := p.lock(name, expiration)
	held.granted()
	c := s.caller(t, 0)
	c.want(nil, "KS.LOCK", name, "NOWAIT")
	c.want(nil, "KS.LOCK", name, "WAIT", 30)
	c.want(nil, "KS.LOCK", name, "WAIT", 30, "TOKEN", "mine")
	c.want(nil, "KS.MEMO", name, "NOWAIT")
	c.want(nil, "KS.MLOCK", 2, "theirs:0", name, "WAIT", 30)
	c.want(int64(0), "KS.UNLOCK", name)
	c.want(int64(0), "KS.UNLOCK", name, "mine")
	c.want(int64(0), "KS.MUNLOCK", 1, name, "mine")
	c.want(int64(0), "KS.EXTEND", name, "mine", "PX", 1)
	c.want(int64(0), "KS.RESOLVE", name, "mine", "value")
	c.want(int64(0), "KS.REJECT", name, "mine", "message")
	c.want(int64(0), "KS.WAIT", name, 30)
	c.do("KS.FORGET", name)
	if err, _ := c.do("KS.GUARD", name, "mine", "SET", "theirs:2", "x").(error); err == nil || !strings.HasPrefix(err.Error(), "LOCKLOST") {
		t.Errorf("KS.GUARD answers %v", err)
	}
	for proxy := range s.proxies {
		s.join(t, proxy, name, "SESSION").c.Close()
		s.awaitLine(t, name, 0)
	}
	ttl := time.Duration(s.do(t, "PTTL", keysOf(name).Lock).(int64)) * time.Millisecond
	if owner := s.owner(t, name); owner != held.id || ttl+time.Since(began) < expiration {
		t.Fatalf("the lock is %q's, for %v", owner, ttl)
	}
	select {
	case <-held.lost:
		t.Error("KeySmith was told that it has lost the lock")
	default:
	}
	watching := make(chan any, 1)
	go func() { watching <- c.do("KS.WAIT", name, 0) }()
	held.release()
	if reply := <-watching; reply != int64(1) {
		t.Errorf("KS.WAIT answers %v", reply)
	}
	harness.Eventually(t, "a kept place is cleared away", func() bool { return len(s.leftovers(t)) == 0 })
	s.onlyFences(t)
}

func (s *stage) ourHoldStands(t *testing.T) {
	const name = "ours:1"
	p := s.process(t)
	holder := s.caller(t, 0)
	g := holder.lock(name, "EX", 60)
	gone, stays := p.lock(name, lease), p.lock(name, lease)
	gone.release() // while it waits: it leaves the set, not the list
	if n := s.do(t, "LLEN", keysOf(name).Queue); n != int64(2) {
		t.Errorf("%v in the list", n)
	}
	if err := stays.take(); err != nil { // again: now it is in the list twice
		t.Fatal(err)
	}
	w := s.join(t, 1, name)
	if owner := s.owner(t, name); owner != g.token {
		t.Fatalf("the lock is %q's", owner)
	}
	holder.want(int64(1), "KS.EXTEND", name, g.token, "EX", 60)
	holder.unlock(name, g)
	s.inTurn(t, name, g.fence, stays, w)
	s.onlyFences(t)
}

func (s *stage) asksEverySecond(t *testing.T) {
	const name = "every:1"
	p := s.process(t)
	held := p.lock(name, lease)
	w := s.join(t, 0, name)
	s.awaitPatterns(t, 1)
	began := time.Now()
	s.awaitAsks(t, name, 4)
	took(t, "four times", began, 4*recheck, 4*recheck+8*time.Second)
	if d := time.Since(began); d < 2*time.Second {
		t.Errorf("it asked four times within %v", d)
	}
	held.release()
	w.granted()
	w.release()
	s.onlyFences(t)
}

// awaitAsks waits until the proxies have run n more scripts on name: they ask.
func (s *stage) awaitAsks(t testing.TB, name string, n int) {
	t.Helper()
	monitor := s.Dial(t)
	defer monitor.Close()
	monitor.Asks(t, "+OK\r\n", "MONITOR")
	for deadline := time.Now().Add(harness.Patience); n > 0; {
		line := monitor.Reply(t)
		if time.Now().After(deadline) {
			t.Fatalf("%d asks for %s are missing after %v", n, name, harness.Patience)
		}
		if strings.Contains(strings.ToLower(line), `"evalsha"`) && strings.Contains(line, `"`+keysOf(name).Lock+`"`) {
			n--
		}
	}
}

func (s *stage) thaw(t testing.TB) {
	t.Helper()
	for _, proxy := range s.proxies {
		proxy.Signal(t, syscall.SIGCONT)
	}
}

// A proxy is killed that holds a lock for a connection.
func TestALockOfAKilledProxyGoesToKeySmith(t *testing.T) {
	const ttl = 1500 * time.Millisecond
	onAndOff(t, setup{proxies: 2, args: []string{"--ks-lock-ttl", "1500"}}, func(t *testing.T, s *stage) {
		const name = "killed:1"
		p := s.process(t)
		g := s.caller(t, 1).lock(name, "SESSION")
		c, w := p.lock(name, lease), s.join(t, 0, name)
		s.join(t, 1, name)
		began := time.Now()
		s.proxies[1].Kill(t)
		c.granted()
		took(t, "KeySmith was granted", began, ttl+100*time.Millisecond, ttl+8*time.Second)
		s.inTurn(t, name, g.fence, c, w)
		s.forget(t, name)
	})
}
