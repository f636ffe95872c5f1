package locks

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

func TestAWaiterWhoseLaneIsKilled(t *testing.T) {
	t.Parallel()
	s := stage.Setup{}.Start(t)
	const name = "lane:1"
	holder := s.Client(t, 0)
	g := holder.Lock(name)
	c := s.Client(t, 1)
	c.Expect("OK", "CLIENT", "SETNAME", "waits")
	first := s.JoinBy(c, "KS.LOCK", name)
	second, third := s.Join(t, 1, name), s.Join(t, 0, name)
	began := time.Now()
	s.KillPeer(t, s.Named(t, "waits"))
	first.AwaitEnd(t)
	if reply, err := first.ReplyWithin(time.Nanosecond); err == nil {
		t.Errorf("a waiter whose lane was killed is answered %q", reply)
	}
	s.AwaitLine(t, name, 2)
	stage.Took(t, "a waiter whose lane was killed is out of line", began, 100*time.Millisecond, time.Second)
	holder.Unlock(name, g)
	stage.InTurn(t, []*stage.Waiter{second, third}, g.Fence)
	s.AwaitFree(t, name)
}

// A proxy is kept without its inbox while twenty others get the
// lock: its fifty waiters are passed over meanwhile and keep their places.
func TestWaitersKeepTheirPlacesWhileTheInboxIsGone(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Relayed: true}.Start(t)
	const name = "inbox:1"
	holder := s.Client(t, 0)
	g := holder.Lock(name)
	memo := s.Client(t, 1) // tells the two subscriptions apart: it waits for a value
	s.Client(t, 0).Generate("inbox:2", "EX", "60")
	memo.Ask("KS.MEMO", "inbox:2")
	s.AwaitLine(t, "inbox:2", 1)
	stage.Eventually(t, "the proxy is subscribed for the memo caller", func() bool { return len(s.Subscriptions(t, 1, 2)) == 1 })

	var away, here []*stage.Waiter
	for i := range 70 {
		if i%7 < 5 {
			away = append(away, s.Join(t, 1, name))
		} else {
			here = append(here, s.Join(t, 0, name))
		}
	}
	s.Relays[1].Refuse(true)
	inboxes := s.Subscriptions(t, 1, 1)
	if len(inboxes) != 1 {
		t.Fatalf("the inbox may be any of %v", inboxes)
	}
	s.KillPeer(t, inboxes[0])
	s.AwaitListeners(t, s.InstanceOf(t, away[0]), 0)

	holder.Unlock(name, g)
	stage.InTurn(t, here[:19], g.Fence)
	last := here[19].Granted()
	for _, w := range away {
		w.Silent("its proxy can't be rung")
	}
	instance := s.InstanceOf(t, away[0])
	s.Relays[1].Refuse(false)
	began := time.Now()
	s.AwaitListeners(t, instance, 1)
	stage.Took(t, "the inbox was back", began, 200*time.Millisecond, 3*time.Second)
	for _, w := range away {
		stage.Eventually(t, "they have asked", func() bool { return !stage.Marked(s.Place(t, name, w.Token)) })
	}
	stage.Took(t, "all waiters had asked again", began, 400*time.Millisecond, 4*time.Second)
	here[19].Unlocks()
	stage.InTurn(t, away, last.Fence)
	s.AwaitFree(t, name)
}

func TestTheInboxIsKilledInBetween(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Relayed: true}.Start(t)
	const name = "inbox:3"
	holder := s.Client(t, 0)
	g := holder.Lock(name)
	var here, away []*stage.Waiter
	for range 10 {
		away = append(away, s.Join(t, 1, name))
		here = append(here, s.Join(t, 0, name))
	}
	turns := make(chan error, 2)
	for _, waiters := range [][]*stage.Waiter{here, away} {
		go func() { // each proxy's waiters come in order, whatever the other's do
			fence := g.Fence
			for i, w := range waiters {
				o := <-stage.Collect([]*stage.Client{w.Client})
				next, err := stage.AsGrant(o.Reply)
				if o.Err != nil || err != nil || next.Fence <= fence {
					turns <- fmt.Errorf("waiter %d: %+v after fence %d: %w", i, next, fence, errors.Join(o.Err, err))
					return
				}
				fence = next.Fence
				w.Ask("KS.UNLOCK", name, next.Token)
				if o := <-stage.Collect([]*stage.Client{w.Client}); o.Reply != int64(1) {
					turns <- fmt.Errorf("waiter %d: KS.UNLOCK answers %v: %w", i, o.Reply, o.Err)
					return
				}
			}
			turns <- nil
		}()
	}
	for _, p := range s.Own(t, 1) { // all at once: inbox, notif and commands
		s.KillPeer(t, p)
	}
	began := time.Now()
	holder.Unlock(name, g)
	for range 2 {
		if err := <-turns; err != nil {
			t.Fatal(err)
		}
	}
	stage.Took(t, "twenty waiters had their turn while all own connections of a proxy were killed", began, time.Second, 10*time.Second)
	s.AwaitFree(t, name)
	s.AwaitLine(t, name, 0)
}

func TestAValueThatIsStoredWhileItsSubscriptionIsGone(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Relayed: true}.Start(t)
	const name = "notif:1"
	s.Client(t, 0).Generate(name, "EX", "60")
	s.Join(t, 0, name) // the first in line asks more often
	w := s.JoinMemo(t, 1, name)
	stage.Eventually(t, "the proxy is subscribed for the memo caller", func() bool { return len(s.Subscriptions(t, 1, 2)) == 1 })
	s.Relays[1].Refuse(true)
	s.KillPeer(t, s.Subscriptions(t, 1, 2)[0])
	stage.Eventually(t, "the subscription is gone", func() bool { return len(s.Subscriptions(t, 1, 2)) == 0 })
	s.Must(t, "SET", name, "v")
	s.Must(t, "PUBLISH", stage.KeyOf(name, "notif"), "v")
	began := time.Now()
	s.Relays[1].Refuse(false)
	stage.WantValue(t, w.Next(), "v")
	stage.Took(t, "a waiter had the value after its proxy was subscribed again", began, time.Second, 3*time.Second)
}

func TestTheCommandConnectionIsKilled(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Relayed: true}.Start(t)
	const name = "own:1"
	holder := s.Client(t, 0)
	g := holder.Lock(name)
	leaving, staying := s.Join(t, 1, name), s.Join(t, 1, name)
	leaving.Close() // by now the proxy has such a connection
	s.AwaitLine(t, name, 1)
	leaving = s.Join(t, 1, name)
	commands := s.Subscriptions(t, 1, 0)
	if len(commands) == 0 {
		t.Fatalf("no command connection among %v", s.Own(t, 1))
	}
	for _, p := range commands {
		s.KillPeer(t, p)
	}
	began := time.Now()
	leaving.Close()
	s.AwaitLine(t, name, 1)
	stage.Took(t, "out of line over a new connection", began, 300*time.Millisecond, 2*time.Second)

	// Its SESSION locks outlive it, and are released over a new one.
	session := s.Client(t, 1)
	session.Lock("own:2", "SESSION")
	for _, p := range s.Subscriptions(t, 1, 0) {
		s.KillPeer(t, p)
	}
	began = time.Now()
	session.Close()
	s.AwaitFree(t, "own:2")
	stage.Took(t, "a SESSION lock was released over a new connection", began, 300*time.Millisecond, 2*time.Second)
	holder.Unlock(name, g)
	stage.InTurn(t, []*stage.Waiter{staying}, g.Fence)
}

func TestANewcomerPassesWaitersWhoCannotBeReached(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Relayed: true}.Start(t)
	const name = "unreachable:1"
	holder := s.Client(t, 0)
	g := holder.Lock(name)
	waiters := []*stage.Waiter{s.Join(t, 1, name), s.Join(t, 1, name), s.Join(t, 1, name)}
	instance := s.InstanceOf(t, waiters[0])
	s.Relays[1].Refuse(true)
	for _, p := range s.Own(t, 1) {
		s.KillPeer(t, p)
	}
	s.AwaitListeners(t, instance, 0)
	thaw := s.FreezeProxy(t, 1) // nor do they ask by themselves
	holder.Unlock(name, g)
	if owner := s.Owner(t, name); owner != "" {
		t.Fatalf("%s has the lock and can't be reached", owner)
	}
	s.AwaitLine(t, name, 3)
	newcomer := s.Client(t, 0)
	g = newcomer.Lock(name, "NOWAIT")
	s.Relays[1].Refuse(false)
	thaw()
	s.AwaitListeners(t, instance, 1)
	for _, w := range waiters {
		stage.Eventually(t, "they have asked", func() bool { return !stage.Marked(s.Place(t, name, w.Token)) })
		w.Silent("the newcomer has the lock")
	}
	newcomer.Unlock(name, g)
	stage.InTurn(t, waiters, g.Fence)
	s.AwaitFree(t, name)
	s.NothingLeft(t)
}
