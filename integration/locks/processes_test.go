package locks

import (
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

func TestWaitersOfAKilledProxyAreSkipped(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Proxies: 3}.Start(t)
	for _, how := range []string{"hand-off", "lease end"} {
		name := "killed:" + how
		victim := 1
		if how == "lease end" {
			victim = 2 // the other is dead
		}
		holder := s.Client(t, 0)
		lease := "30000"
		if how == "lease end" {
			lease = "1500"
		}
		g := holder.Lock(name, "PX", lease)
		ends := time.Now().Add(1500 * time.Millisecond)
		dead := s.Join(t, victim, name)
		instance := s.InstanceOf(t, dead)
		var waiters []*stage.Waiter
		for range 2 { // those of the dead proxy stand before and between the others
			s.Join(t, victim, name)
			waiters = append(waiters, s.Join(t, 0, name))
			s.Join(t, victim, name)
		}
		s.Proxies[victim].Kill(t)
		s.AwaitListeners(t, instance, 0)
		if how == "hand-off" {
			ends = time.Now()
			holder.Unlock(name, g)
		}
		first := waiters[0].Granted()
		stage.Took(t, "the waiters of a dead proxy were skipped at "+how, ends, 100*time.Millisecond, 1500*time.Millisecond)
		if first.Fence <= g.Fence {
			t.Fatalf("%+v after %+v", first, g)
		}
		began := time.Now()
		waiters[0].Unlocks()
		stage.InTurn(t, waiters[1:], first.Fence)
		newcomer := s.Client(t, 0)
		newcomer.Unlock(name, newcomer.Lock(name))
		stage.Took(t, "and at the next hand-offs", began, 0, 1500*time.Millisecond)
	}
	s.WithinAMinute(t)
}

// frozen is a line whose first three wait on proxy 1, which the test stops, and
// whose last is on proxy 2.
type frozen struct {
	*stage.Stage
	name   string
	holder *stage.Client
	g      stage.Grant
	stuck  []*stage.Waiter
	last   *stage.Waiter
}

func startFrozen(t *testing.T, name string, options ...string) *frozen {
	t.Helper()
	f := &frozen{Stage: stage.Setup{Proxies: 3}.Start(t), name: name}
	f.holder = f.Client(t, 0)
	f.g = f.holder.Lock(name, options...)
	for range 3 {
		f.stuck = append(f.stuck, f.Join(t, 1, name))
	}
	f.last = f.Join(t, 2, name)
	return f
}

// claimWindow is how long a hand-off to a frozen proxy holds.
const claimWindow = 2 * time.Second

func TestAFrozenProxyCostsTheLineOneClaimWindow(t *testing.T) {
	t.Parallel()
	f := startFrozen(t, "frozen:1")
	thaw := f.FreezeProxy(t, 1)
	began := time.Now()
	f.holder.Unlock(f.name, f.g)
	if owner := f.Owner(t, f.name); owner != f.stuck[0].Token {
		t.Fatalf("the lock was handed to %s, first in line is %s", owner, f.stuck[0].Token)
	}
	g := f.last.Granted()
	stage.Took(t, "one behind a frozen proxy was granted", began, claimWindow, claimWindow+1500*time.Millisecond)
	if g.Fence <= f.g.Fence {
		t.Fatalf("%+v after %+v", g, f.g)
	}

	// It is known now: the next hand-off passes it by at once.
	next := f.Join(t, 0, f.name)
	began = time.Now()
	f.last.Unlocks()
	g = next.Granted()
	stage.Took(t, "the next hand-off", began, 0, time.Second)

	// Thawed, they are where they were.
	behind := f.Join(t, 2, f.name)
	thaw()
	for _, w := range f.stuck {
		stage.Eventually(t, "they have asked", func() bool { return !stage.Marked(f.Place(t, f.name, w.Token)) })
	}
	next.Unlocks()
	stage.InTurn(t, append(f.stuck, behind), g.Fence)
	f.AwaitFree(t, f.name)
	f.NothingLeft(t)
}

func TestAProxyThatThawsInTimeClaims(t *testing.T) {
	t.Parallel()
	f := startFrozen(t, "frozen:2")
	thaw := f.FreezeProxy(t, 1)
	f.holder.Unlock(f.name, f.g)
	f.AwaitOwner(t, f.name, f.stuck[0].Token)
	began := time.Now()
	thaw()
	stage.InTurn(t, append(f.stuck, f.last), f.g.Fence)
	stage.Took(t, "four hand-offs after the thaw", began, 0, 1500*time.Millisecond)
	f.AwaitFree(t, f.name)
}

func TestALeaseThatRunsOutForAFrozenProxy(t *testing.T) {
	t.Parallel()
	f := startFrozen(t, "frozen:3", "PX", "700")
	ends := time.Now().Add(700 * time.Millisecond)
	thaw := f.FreezeProxy(t, 1)
	g := f.last.Granted()
	stage.Took(t, "one behind a frozen proxy was granted after the lease had run out", ends, claimWindow+100*time.Millisecond, claimWindow+1500*time.Millisecond)
	thaw()
	for _, w := range f.stuck {
		stage.Eventually(t, "they have asked", func() bool { return !stage.Marked(f.Place(t, f.name, w.Token)) })
	}
	f.last.Unlocks()
	stage.InTurn(t, f.stuck, g.Fence)
}

// A holder that was stopped past its lease has lost the lock and is told so.
func TestAProxyThatThawsLateHasLostItsSessionLocks(t *testing.T) {
	t.Parallel()
	s := sessions.Start(t)
	const name = "frozen:4"
	holder := s.Client(t, 0)
	holder.Call("HELLO", "3")
	g := holder.Lock(name, "SESSION")
	w := s.Join(t, 1, name, "EX", "30")
	thaw := s.FreezeProxy(t, 0)
	began := time.Now()
	next := w.Granted()
	stage.Took(t, "the lock of a frozen proxy ran out", began, sessionTTL+100*time.Millisecond, sessionTTL+1500*time.Millisecond)
	thaw()
	began = time.Now()
	if push := holder.Reply(t); push != pushOf("ks.lost", name, g.Token) {
		t.Fatalf("the push is %q", push)
	}
	stage.Took(t, "the loss was told after the thaw", began, sessionTTL/3, sessionTTL/3+1500*time.Millisecond)
	holder.Expect(int64(0), "KS.UNLOCK", name, g.Token)
	holder.Close()
	s.AwaitClosed(t, holder)
	w.Expect(int64(1), "KS.EXTEND", name, next.Token, "EX", "20")
	w.Unlocks()
}

// A proxy is cut off for good with a waiter: the place is there while others get the lock for half a
// minute, and gone with the next of them.
func TestAPlaceThatCannotBeReachedIsKeptForHalfAMinute(t *testing.T) {
	t.Parallel()
	const name, kept = "cutoff:1", 30 * time.Second
	s := stage.Setup{Relayed: true}.Start(t)
	holder := s.Client(t, 0)
	g := holder.Lock(name)
	away := s.Join(t, 1, name)
	instance := s.InstanceOf(t, away)
	s.Relays[1].Refuse(true)
	for _, p := range s.Own(t, 1) {
		s.KillPeer(t, p)
	}
	s.AwaitListeners(t, instance, 0)
	s.FreezeProxy(t, 1) // nor does it ask by itself
	marked := time.Now()
	holder.Unlock(name, g) // from now on it is known that it can't be reached
	for {
		line := s.Line(t, name)
		if len(line) == 0 {
			break
		}
		if late := time.Since(marked); late > kept+15*time.Second {
			t.Fatalf("the place is kept for %v", late)
		}
		next := holder.Lock(name, "NOWAIT")
		if next.Fence <= g.Fence {
			t.Fatalf("%+v after %+v", next, g)
		}
		g = next
		holder.Unlock(name, g)
		time.Sleep(100 * time.Millisecond) // it is what is tested: time goes by
	}
	d := time.Since(marked)
	s.Relays[1].Refuse(false) // it can end in peace
	t.Logf("the place was kept for %v (promised: %v)", d, kept)
	if d < kept-100*time.Millisecond {
		t.Errorf("the place was kept for %v only", d)
	}
}
