package keysmith

import (
	"testing"
	"time"
)

func (s *stage) deadWaiter(t *testing.T) {
	const name = "dead:1"
	dead := s.process(t)
	holder := s.caller(t, 0)
	g := holder.lock(name)
	dead.lock(name, lease)
	first := s.join(t, 0, name)
	dead.lock(name, lease)
	second := s.join(t, 1, name)
	dead.kill()
	began := time.Now()
	holder.unlock(name, g)
	s.inTurn(t, name, g.fence, first, second)
	took(t, "two hand-offs past the dead", began, 0, 10*time.Second)
	s.caller(t, 2).lock(name, "NOWAIT", "PX", 1)
	s.forget(t, name)
}

// forget is the minute after which a line with dead waiters in it is gone.
func (s *stage) forget(t testing.TB, name string) {
	t.Helper()
	s.withinAMinute(t)
	k := keysOf(name)
	s.do(t, "DEL", k.Lock, k.Queue, k.Set)
	s.onlyFences(t)
}

func (s *stage) cancelledWaiter(t *testing.T) {
	const name = "cancelled:1"
	p := s.process(t)
	holder := s.caller(t, 0)
	g := holder.lock(name)
	c := p.lock(name, lease)
	w := s.join(t, 1, name)
	c.cancel()
	began := time.Now()
	holder.unlock(name, g)
	s.inTurn(t, name, g.fence, w)
	took(t, "two hand-offs, one of them to a cancelled call", began, recheck, 10*time.Second)
	<-c.over
	s.onlyFences(t)
}

// While anybody of KeySmith listens on the channel, nobody can tell whether it is the one whose turn it is.
func TestWaitersOfADeadProcessCostOneLeaseEachWhileAnotherListens(t *testing.T) {
	const ttl = 1500 * time.Millisecond
	onAndOff(t, setup{proxies: 2, args: []string{"--ks-lock-ttl", "1500"}}, func(t *testing.T, s *stage) {
		const name, deads = "beside:1", 2
		dead, frozen, living := s.process(t), s.process(t), s.process(t)
		holder := s.caller(t, 0)
		g := holder.lock(name, "EX", 60)
		for range deads {
			dead.lock(name, lease)
		}
		stuck := frozen.lock(name, lease)
		alive := living.lock(name, lease)
		w := s.join(t, 1, name)
		dead.kill()
		thaw := frozen.freeze()
		defer thaw()
		began := time.Now()
		holder.unlock(name, g)
		alive.granted()
		took(t, "two dead and a frozen waiter were served", began, (deads+1)*ttl, (deads+1)*ttl+8*time.Second)
		if d := time.Since(began); d < (deads+1)*ttl {
			t.Errorf("all three within %v: then this is better than it is said to be", d)
		}
		alive.release()
		w.granted()
		if w.grant.fence <= g.fence {
			t.Errorf("fence %d after %d", w.grant.fence, g.fence)
		}
		thaw()
		stuck.granted() // it has heard of its turn, and of its end
		stuck.loss()
		if owner := s.owner(t, name); owner != w.token {
			t.Fatalf("late as it was, it made the lock %q's", owner)
		}
		w.release()
		<-stuck.over
		s.onlyFences(t)
	})
}

// KeySmith hands its lock to whoever is next in line, dead or alive, for as long as its locks last.
func TestAHandOffByKeySmithToADeadProxyEndsWithItsExpiration(t *testing.T) {
	const expiration = 1500 * time.Millisecond
	onAndOff(t, setup{proxies: 2}, func(t *testing.T, s *stage) {
		const name = "deadproxy:1"
		p := s.process(t)
		held := p.lock(name, lease)
		var behind []*waiter
		first := s.join(t, 1, name)
		for range 2 { // the first of them is served by KeySmith, and costs something; the second by us
			behind = append(behind, s.join(t, 0, name))
			s.join(t, 1, name)
		}
		s.proxies[1].Kill(t)
		began := time.Now()
		held.releaseFor(expiration)
		if owner := s.owner(t, name); owner != first.token {
			t.Fatalf("the lock is %q's, first in line was %s", owner, first.token)
		}
		s.inTurn(t, name, 0, behind[0], behind[1])
		took(t, "the next two were granted", began, expiration+100*time.Millisecond, expiration+8*time.Second)
		s.forget(t, name)
	})
}
