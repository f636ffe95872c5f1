package locks

import (
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// The first bytes of an ask are on their way when the
// connection breaks, and the rest arrives later. Redis executes what it has
// received, also from a connection whose other end is gone.
func TestAHalfSentAskOfAConnectionThatBrokeGrantsNothing(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Relayed: true}.Start(t)
	const name = "half:1"
	for _, session := range []bool{false, true} {
		c := s.Client(t, 1)
		c.Expect("OK", "CLIENT", "SETNAME", "half")
		c.Unlock(name, c.Lock(name)) // scripts and all else are known
		lane := s.Named(t, "half")
		link := s.Relays[1].Link(lane["addr"])
		link.LimitUp(50)
		if session {
			c.Ask("KS.LOCK", name, "SESSION")
		} else {
			c.Ask("KS.LOCK", name, "EX", "3600")
		}
		stage.Eventually(t, "half of the ask is on its way", func() bool { return link.Held() > 0 })
		link.CutClient()
		c.AwaitEnd(t)
		// The proxy makes sure that the rest is never executed: it kills the lane.
		began := time.Now()
		for s.Lives(t, lane) && time.Since(began) < 5*time.Second {
			time.Sleep(2 * time.Millisecond) // the next look
		}
		stage.Took(t, "the broken lane was killed", began, 100*time.Millisecond, 2*time.Second)
		link.Resume()
		stage.Eventually(t, "the link has ended", func() bool { return s.Relays[1].Link(lane["addr"]) == nil })
		newcomer := s.Client(t, 0)
		began = time.Now()
		newcomer.Unlock(name, newcomer.Lock(name, "WAIT", "15000"))
		stage.Took(t, "a newcomer had the lock that was half asked for", began, 0, time.Second)
	}
	s.NothingLeft(t)
}

// An ask that Redis has executed, but whose reply never comes.
func TestAnAskWhoseReplyIsLostLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Relayed: true}.Start(t)
	for _, held := range []bool{false, true} { // granted, or put into line
		name := "reply:granted"
		holder := s.Client(t, 0)
		var g stage.Grant
		if held {
			name = "reply:queued"
			g = holder.Lock(name)
		}
		c := s.Client(t, 1)
		c.Expect("OK", "CLIENT", "SETNAME", name)
		c.Unlock(name+"0", c.Lock(name+"0")) // the proxy knows all that it needs to know of c
		link := s.Relays[1].Link(s.Named(t, name)["addr"])
		link.LimitDown(0)
		c.Ask("KS.LOCK", name, "EX", "3600")
		if held {
			s.AwaitLine(t, name, 1)
		} else {
			stage.Eventually(t, "Redis has granted", func() bool { return s.Owner(t, name) != "" })
		}
		link.Cut()
		began := time.Now()
		c.AwaitEnd(t)
		if held {
			s.AwaitLine(t, name, 0)
			holder.Unlock(name, g)
		}
		s.AwaitFree(t, name)
		stage.Took(t, "nothing of the call was left", began, 100*time.Millisecond, 2*time.Second)
	}
	s.NothingLeft(t)
}

func TestAStalledInboxIsReplaced(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Relayed: true}.Start(t)
	const name = "stall:1"
	holder := s.Client(t, 0)
	g := holder.Lock(name)
	waiters := []*stage.Waiter{s.Join(t, 1, name), s.Join(t, 1, name), s.Join(t, 0, name), s.Join(t, 1, name)}
	old := map[string]bool{}
	for _, p := range s.Own(t, 1) {
		old[p["addr"]] = true
		s.Relays[1].Link(p["addr"]).Stall()
	}
	// Redis believes that it can be reached; the first in line notices by itself within the claim window.
	began := time.Now()
	holder.Unlock(name, g)
	stage.InTurn(t, waiters, g.Fence)
	stage.Took(t, "four hand-offs while the own connections of a proxy stalled", began, 4*time.Second, 10*time.Second)

	stage.Eventually(t, "the proxy has dialled anew", func() bool {
		for _, p := range s.Subscriptions(t, 1, 1) {
			if !old[p["addr"]] {
				return true
			}
		}
		return false
	})
	stage.Took(t, "a stalled inbox was replaced", began, 6*time.Second, 12*time.Second)
	stage.Eventually(t, "both are", func() bool {
		fresh := 0
		for _, p := range s.Subscriptions(t, 1, 1) {
			if !old[p["addr"]] {
				fresh++
			}
		}
		return fresh == 2
	})
	g = holder.Lock(name)
	w := s.Join(t, 1, name)
	began = time.Now()
	holder.Unlock(name, g)
	w.Granted()
	stage.Took(t, "a hand-off over the new inbox", began, 0, 700*time.Millisecond)
	w.Unlocks()
}

func TestACutLinkTakesDownOneProxyForAMoment(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Relayed: true}.Start(t)
	const name = "cut:1"
	holder := s.Client(t, 0)
	g := holder.Lock(name)
	gone := []*stage.Waiter{s.Join(t, 1, name), s.Join(t, 1, name)}
	w := s.Join(t, 0, name)
	session := s.Client(t, 1)
	session.Lock("cut:2", "SESSION")
	s.Relays[1].Cut()
	began := time.Now()
	for _, w := range gone {
		w.AwaitEnd(t)
	}
	session.AwaitEnd(t)
	holder.Unlock(name, g)
	stage.InTurn(t, []*stage.Waiter{w}, g.Fence)
	stage.Took(t, "the waiter on the other proxy had the lock", began, 0, 1500*time.Millisecond)
	s.AwaitFree(t, "cut:2")
	stage.Took(t, "a SESSION lock of the cut proxy was released", began, time.Second, 3*time.Second)
	c, _ := s.LockAgain(t, 1, "cut:3")
	c.Expect(int64(1), "KS.UNLOCK", "cut:3")
	s.AwaitLine(t, name, 0)
	s.NothingLeft(t)
}

func TestASlowLinkKeepsTheOrder(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Relayed: true, Args: []string{"--ks-lock-ttl", "5000"}}.Start(t)
	const name = "slow:1"
	s.Relays[1].Delay(60 * time.Millisecond)
	holder := s.Client(t, 0)
	g := holder.Lock(name)
	var waiters []*stage.Waiter
	for i := range 8 {
		waiters = append(waiters, s.Join(t, i%2, name))
	}
	began := time.Now()
	holder.Unlock(name, g)
	stage.InTurn(t, waiters, g.Fence)
	stage.Took(t, "four of eight hand-offs over a link with 60 ms each way", began, 4*360*time.Millisecond, 6*time.Second)
	s.AwaitFree(t, name)
	s.NothingLeft(t)
}
