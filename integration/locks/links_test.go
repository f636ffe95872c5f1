package locks

import (
	"testing"
	"time"
)

// The first bytes of an ask are on their way when the
// connection breaks, and the rest arrives later. Redis executes what it has
// received, also from a connection whose other end is gone.
func TestAHalfSentAskOfAConnectionThatBrokeGrantsNothing(t *testing.T) {
	t.Parallel()
	s := setup{relayed: true}.start(t)
	const name = "half:1"
	for _, session := range []bool{false, true} {
		c := s.client(t, 1)
		c.want("OK", "CLIENT", "SETNAME", "half")
		c.unlock(name, c.lock(name)) // scripts and all else are known
		lane := s.named(t, "half")
		link := s.relays[1].Link(lane["addr"])
		link.LimitUp(50)
		if session {
			c.ask("KS.LOCK", name, "SESSION")
		} else {
			c.ask("KS.LOCK", name, "EX", "3600")
		}
		eventually(t, "half of the ask is on its way", func() bool { return link.Held() > 0 })
		link.CutClient()
		c.AwaitEnd(t)
		// The proxy makes sure that the rest is never executed: it kills the lane.
		began := time.Now()
		for s.lives(t, lane) && time.Since(began) < 5*time.Second {
			time.Sleep(2 * time.Millisecond) // the next look
		}
		took(t, "the broken lane was killed", began, 100*time.Millisecond, 2*time.Second)
		link.Resume()
		eventually(t, "the link has ended", func() bool { return s.relays[1].Link(lane["addr"]) == nil })
		newcomer := s.client(t, 0)
		began = time.Now()
		newcomer.unlock(name, newcomer.lock(name, "WAIT", "15000"))
		took(t, "a newcomer had the lock that was half asked for", began, 0, time.Second)
	}
	s.nothingLeft(t)
}

// lives reports whether Redis still has that connection.
func (s *stage) lives(t testing.TB, which peer) bool {
	t.Helper()
	for _, p := range s.peers(t) {
		if p["id"] == which["id"] {
			return true
		}
	}
	return false
}

// An ask that Redis has executed, but whose reply never comes.
func TestAnAskWhoseReplyIsLostLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	s := setup{relayed: true}.start(t)
	for _, held := range []bool{false, true} { // granted, or put into line
		name := "reply:granted"
		holder := s.client(t, 0)
		var g grant
		if held {
			name = "reply:queued"
			g = holder.lock(name)
		}
		c := s.client(t, 1)
		c.want("OK", "CLIENT", "SETNAME", name)
		c.unlock(name+"0", c.lock(name+"0")) // the proxy knows all that it needs to know of c
		link := s.relays[1].Link(s.named(t, name)["addr"])
		link.LimitDown(0)
		c.ask("KS.LOCK", name, "EX", "3600")
		if held {
			s.awaitLine(t, name, 1)
		} else {
			eventually(t, "Redis has granted", func() bool { return s.owner(t, name) != "" })
		}
		link.Cut()
		began := time.Now()
		c.AwaitEnd(t)
		if held {
			s.awaitLine(t, name, 0)
			holder.unlock(name, g)
		}
		s.awaitFree(t, name)
		took(t, "nothing of the call was left", began, 100*time.Millisecond, 2*time.Second)
	}
	s.nothingLeft(t)
}

func TestAStalledInboxIsReplaced(t *testing.T) {
	t.Parallel()
	s := setup{relayed: true}.start(t)
	const name = "stall:1"
	holder := s.client(t, 0)
	g := holder.lock(name)
	waiters := []*waiter{s.join(t, 1, name), s.join(t, 1, name), s.join(t, 0, name), s.join(t, 1, name)}
	old := map[string]bool{}
	for _, p := range s.own(t, 1) {
		old[p["addr"]] = true
		s.relays[1].Link(p["addr"]).Stall()
	}
	// Redis believes that it can be reached; the first in line notices by itself within the claim window.
	began := time.Now()
	holder.unlock(name, g)
	inTurn(t, waiters, g.fence)
	took(t, "four hand-offs while the own connections of a proxy stalled", began, 4*time.Second, 10*time.Second)

	eventually(t, "the proxy has dialled anew", func() bool {
		for _, p := range s.subscriptions(t, 1, 1) {
			if !old[p["addr"]] {
				return true
			}
		}
		return false
	})
	took(t, "a stalled inbox was replaced", began, 6*time.Second, 12*time.Second)
	eventually(t, "both are", func() bool {
		fresh := 0
		for _, p := range s.subscriptions(t, 1, 1) {
			if !old[p["addr"]] {
				fresh++
			}
		}
		return fresh == 2
	})
	g = holder.lock(name)
	w := s.join(t, 1, name)
	began = time.Now()
	holder.unlock(name, g)
	w.granted()
	took(t, "a hand-off over the new inbox", began, 0, 700*time.Millisecond)
	w.unlocks()
}

func TestACutLinkTakesDownOneProxyForAMoment(t *testing.T) {
	t.Parallel()
	s := setup{relayed: true}.start(t)
	const name = "cut:1"
	holder := s.client(t, 0)
	g := holder.lock(name)
	gone := []*waiter{s.join(t, 1, name), s.join(t, 1, name)}
	w := s.join(t, 0, name)
	session := s.client(t, 1)
	session.lock("cut:2", "SESSION")
	s.relays[1].Cut()
	began := time.Now()
	for _, w := range gone {
		w.AwaitEnd(t)
	}
	session.AwaitEnd(t)
	holder.unlock(name, g)
	inTurn(t, []*waiter{w}, g.fence)
	took(t, "the waiter on the other proxy had the lock", began, 0, 1500*time.Millisecond)
	s.awaitFree(t, "cut:2")
	took(t, "a SESSION lock of the cut proxy was released", began, time.Second, 3*time.Second)
	c, _ := s.lockAgain(t, 1, "cut:3")
	c.want(int64(1), "KS.UNLOCK", "cut:3")
	s.awaitLine(t, name, 0)
	s.nothingLeft(t)
}

func TestASlowLinkKeepsTheOrder(t *testing.T) {
	t.Parallel()
	s := setup{relayed: true, args: []string{"--ks-lock-ttl", "5000"}}.start(t)
	const name = "slow:1"
	s.relays[1].Delay(60 * time.Millisecond)
	holder := s.client(t, 0)
	g := holder.lock(name)
	var waiters []*waiter
	for i := range 8 {
		waiters = append(waiters, s.join(t, i%2, name))
	}
	began := time.Now()
	holder.unlock(name, g)
	inTurn(t, waiters, g.fence)
	took(t, "four of eight hand-offs over a link with 60 ms each way", began, 4*360*time.Millisecond, 6*time.Second)
	s.awaitFree(t, name)
	s.nothingLeft(t)
}
