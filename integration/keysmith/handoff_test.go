package keysmith

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// recheck is how long it takes at most until the first in line looks by itself, behind a holder who is none of ours.
const recheck = 1200 * time.Millisecond

func (s *stage) sharedQueue(t *testing.T) {
	const name = "queue:1"
	one, two := s.process(t), s.process(t)
	holder := s.caller(t, 0)
	g := holder.lock(name, "EX", 60)
	members := []member{
		one.lock(name, lease), s.join(t, 0, name, "EX", 60), s.join(t, 1, name, "EX", 60),
		two.lock(name, lease), one.lock(name, lease), s.join(t, 2, name, "EX", 60),
	}
	for i, id := range s.awaitLine(t, name, len(members)) {
		if id != members[i].who() {
			t.Fatalf("in line are %v, the place %d should be %s's", s.line(t, name), i, members[i].who())
		}
	}
	s.awaitPatterns(t, 1)
	began := time.Now()
	holder.unlock(name, g)
	s.inTurn(t, name, g.fence, members...)
	took(t, "six turns", began, 3*recheck, 15*time.Second)
	s.onlyFences(t)
}

func (s *stage) handOffToUs(t *testing.T) {
	const name, rounds = "tous:1", 3
	p := s.process(t)
	fastest := time.Hour
	var fence int64
	for round := range rounds {
		held := p.lock(name, lease)
		held.granted()
		w := s.join(t, round, name)
		s.awaitPatterns(t, 1)
		w.silent("KeySmith holds the lock")
		began := time.Now()
		held.release()
		w.granted()
		fastest = min(fastest, time.Since(began))
		took(t, "the hand-off", began, recheck, recheck+5*time.Second)
		if w.grant.fence <= fence || s.owner(t, name) != w.token {
			t.Fatalf("%+v after fence %d, the lock is %q's", w.grant, fence, s.owner(t, name))
		}
		fence = w.grant.fence
		if ttl := s.do(t, "PTTL", keysOf(name).Lock).(int64); ttl <= 0 || ttl > lease.Milliseconds() {
			t.Errorf("the lease ends in %d ms", ttl)
		}
		w.release()
	}
	if s.interop && fastest > 700*time.Millisecond { // by itself the waiter looks after 800 ms at the earliest
		t.Errorf("the fastest of %d hand-offs took %v: none was heard of", rounds, fastest)
	}
	s.onlyFences(t)
}

func (s *stage) handOffToAMemoCaller(t *testing.T) {
	const name = "memo:1"
	p := s.process(t)
	held := p.lock(name, lease)
	w := s.joinBy(t, 0, "KS.MEMO", name)
	other := s.joinBy(t, 1, "KS.MEMO", name)
	held.release()
	w.granted()
	w.want(int64(1), "KS.RESOLVE", name, w.token, "made", "PX", "60000")
	reply, _ := (<-other.answer).([]any)
	if len(reply) != 2 || reply[0] != "value" || reply[1] != "made" {
		t.Fatalf("the other caller was answered %v", reply)
	}
	s.do(t, "DEL", name)
	s.onlyFences(t)
}

func (s *stage) handOffToKeySmith(t *testing.T) {
	const name = "tokeysmith:1"
	p, watcher := s.process(t), s.Dial(t)
	watcher.Send(t, harness.Command("SUBSCRIBE", keysOf(name).Channel))
	watcher.Reply(t)
	holder := s.caller(t, 0)
	g := holder.lock(name)
	first, second := p.lock(name, lease), p.lock(name, lease)
	began := time.Now()
	holder.unlock(name, g)
	first.granted()
	took(t, "the hand-off", began, 0, 5*time.Second)
	if ttl := s.do(t, "PTTL", keysOf(name).Lock).(int64); ttl <= 0 || ttl > 30_000 {
		t.Errorf("it is held for %d ms, ks-lock-ttl is 30000", ttl)
	}
	second.silent("the first has the lock")
	first.release()
	second.granted()
	w := s.join(t, 1, name)
	second.release()
	w.granted()
	w.release()
	for _, id := range []string{g.token, first.id, second.id, w.token} {
		message := fmt.Sprintf("*3\r\n$7\r\nmessage\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n",
			len(keysOf(name).Channel), keysOf(name).Channel, len(id), id)
		watcher.Want(t, message)
	}
	watcher.Close()
	s.onlyFences(t)
}

func (s *stage) alternatingOwners(t *testing.T) {
	const name, rounds = "alternate:1", 4
	p, other := s.process(t), s.process(t)
	var fence int64
	has := member(p.lock(name, lease))
	began := time.Now()
	for i := range rounds {
		ours := s.join(t, i, name)
		has.release()
		ours.granted()
		if ours.grant.fence <= fence {
			t.Fatalf("fence %d after %d", ours.grant.fence, fence)
		}
		fence = ours.grant.fence
		next := other.lock(name, lease)
		p, other = other, p
		next.silent("we hold the lock")
		ours.release()
		next.granted()
		if owner := s.owner(t, name); owner != next.id {
			t.Fatalf("%s was granted the lock, which is %q's", next.id, owner)
		}
		has = next
	}
	took(t, fmt.Sprintf("%d hand-offs there and back", rounds), began, rounds*recheck, 15*time.Second)
	has.release()
	s.onlyFences(t)
}

func (s *stage) manyAtOnce(t *testing.T) {
	const name, members, turns = "many:1", 3, 2
	p := s.process(t)
	var inside, counted atomic.Int32
	turn := func() {
		if n := inside.Add(1); n != 1 {
			t.Errorf("%d have the lock", n)
		}
		runtime.Gosched()
		counted.Add(1)
		inside.Add(-1)
	}
	var all sync.WaitGroup
	for i := range members {
		all.Go(func() {
			for range turns {
				c := p.lock(name, lease)
				c.granted()
				turn()
				c.release()
			}
		})
		c := s.caller(t, i)
		all.Go(func() {
			for range turns {
				g, err := asGrant(c.do("KS.LOCK", name, "EX", 60))
				if err != nil {
					t.Error(err)
					return
				}
				turn()
				if reply := c.do("KS.UNLOCK", name, g.token); reply != int64(1) {
					t.Errorf("KS.UNLOCK answers %v", reply)
				}
			}
		})
	}
	all.Wait()
	if n := counted.Load(); n != 2*members*turns {
		t.Errorf("%d turns were counted of %d", n, 2*members*turns)
	}
	s.onlyFences(t)
}
