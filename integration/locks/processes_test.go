package locks

import (
	"strings"
	"testing"
	"time"
)

func TestWaitersOfAKilledProxyAreSkipped(t *testing.T) {
	t.Parallel()
	s := setup{proxies: 3}.start(t)
	for _, how := range []string{"hand-off", "lease end"} {
		name := "killed:" + how
		victim := 1
		if how == "lease end" {
			victim = 2 // the other is dead
		}
		holder := s.client(t, 0)
		lease := "30000"
		if how == "lease end" {
			lease = "1500"
		}
		g := holder.lock(name, "PX", lease)
		ends := time.Now().Add(1500 * time.Millisecond)
		dead := s.join(t, victim, name)
		instance := s.instanceOf(t, dead)
		var waiters []*waiter
		for range 2 { // those of the dead proxy stand before and between the others
			s.join(t, victim, name)
			waiters = append(waiters, s.join(t, 0, name))
			s.join(t, victim, name)
		}
		s.proxies[victim].Kill(t)
		s.awaitListeners(t, instance, 0)
		if how == "hand-off" {
			ends = time.Now()
			holder.unlock(name, g)
		}
		first := waiters[0].granted()
		took(t, "the waiters of a dead proxy were skipped at "+how, ends, 100*time.Millisecond, 1500*time.Millisecond)
		if first.fence <= g.fence {
			t.Fatalf("%+v after %+v", first, g)
		}
		began := time.Now()
		waiters[0].unlocks()
		inTurn(t, waiters[1:], first.fence)
		newcomer := s.client(t, 0)
		newcomer.unlock(name, newcomer.lock(name))
		took(t, "and at the next hand-offs", began, 0, 1500*time.Millisecond)
	}
	s.withinAMinute(t)
}

// frozen is a line whose first three wait on proxy 1, which the test stops, and
// whose last is on proxy 2.
type frozen struct {
	*stage
	name   string
	holder *client
	g      grant
	stuck  []*waiter
	last   *waiter
}

func startFrozen(t *testing.T, name string, options ...string) *frozen {
	t.Helper()
	f := &frozen{stage: setup{proxies: 3}.start(t), name: name}
	f.holder = f.client(t, 0)
	f.g = f.holder.lock(name, options...)
	for range 3 {
		f.stuck = append(f.stuck, f.join(t, 1, name))
	}
	f.last = f.join(t, 2, name)
	return f
}

// claimWindow is how long a hand-off to a frozen proxy holds.
const claimWindow = 2 * time.Second

func TestAFrozenProxyCostsTheLineOneClaimWindow(t *testing.T) {
	t.Parallel()
	f := startFrozen(t, "frozen:1")
	thaw := f.freeze(t, 1)
	began := time.Now()
	f.holder.unlock(f.name, f.g)
	if owner := f.owner(t, f.name); owner != f.stuck[0].token {
		t.Fatalf("the lock was handed to %s, first in line is %s", owner, f.stuck[0].token)
	}
	g := f.last.granted()
	took(t, "one behind a frozen proxy was granted", began, claimWindow, claimWindow+1500*time.Millisecond)
	if g.fence <= f.g.fence {
		t.Fatalf("%+v after %+v", g, f.g)
	}

	// It is known now: the next hand-off passes it by at once.
	next := f.join(t, 0, f.name)
	began = time.Now()
	f.last.unlocks()
	g = next.granted()
	took(t, "the next hand-off", began, 0, time.Second)

	// Thawed, they are where they were.
	behind := f.join(t, 2, f.name)
	thaw()
	for _, w := range f.stuck {
		eventually(t, "they have asked", func() bool { return !marked(f.place(t, f.name, w.token)) })
	}
	next.unlocks()
	inTurn(t, append(f.stuck, behind), g.fence)
	f.awaitFree(t, f.name)
	f.nothingLeft(t)
}

// marked: who waits there could not be rung, or did not claim.
func marked(place string) bool { return strings.Contains(place, "|") }

func TestAProxyThatThawsInTimeClaims(t *testing.T) {
	t.Parallel()
	f := startFrozen(t, "frozen:2")
	thaw := f.freeze(t, 1)
	f.holder.unlock(f.name, f.g)
	f.awaitOwner(t, f.name, f.stuck[0].token)
	began := time.Now()
	thaw()
	inTurn(t, append(f.stuck, f.last), f.g.fence)
	took(t, "four hand-offs after the thaw", began, 0, 1500*time.Millisecond)
	f.awaitFree(t, f.name)
}

func TestALeaseThatRunsOutForAFrozenProxy(t *testing.T) {
	t.Parallel()
	f := startFrozen(t, "frozen:3", "PX", "700")
	ends := time.Now().Add(700 * time.Millisecond)
	thaw := f.freeze(t, 1)
	g := f.last.granted()
	took(t, "one behind a frozen proxy was granted after the lease had run out", ends, claimWindow+100*time.Millisecond, claimWindow+1500*time.Millisecond)
	thaw()
	for _, w := range f.stuck {
		eventually(t, "they have asked", func() bool { return !marked(f.place(t, f.name, w.token)) })
	}
	f.last.unlocks()
	inTurn(t, f.stuck, g.fence)
}

// A holder that was stopped past its lease has lost the lock and is told so.
func TestAProxyThatThawsLateHasLostItsSessionLocks(t *testing.T) {
	t.Parallel()
	s := sessions.start(t)
	const name = "frozen:4"
	holder := s.client(t, 0)
	holder.do("HELLO", "3")
	g := holder.lock(name, "SESSION")
	w := s.join(t, 1, name, "EX", "30")
	thaw := s.freeze(t, 0)
	began := time.Now()
	next := w.granted()
	took(t, "the lock of a frozen proxy ran out", began, sessionTTL+100*time.Millisecond, sessionTTL+1500*time.Millisecond)
	thaw()
	began = time.Now()
	if push := holder.Reply(t); push != pushOf("ks.lost", name, g.token) {
		t.Fatalf("the push is %q", push)
	}
	took(t, "the loss was told after the thaw", began, sessionTTL/3, sessionTTL/3+1500*time.Millisecond)
	holder.want(int64(0), "KS.UNLOCK", name, g.token)
	holder.Close()
	s.awaitClosed(t, holder)
	w.want(int64(1), "KS.EXTEND", name, next.token, "EX", "20")
	w.unlocks()
}
