package locks

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestAWaiterWhoseLaneIsKilled(t *testing.T) {
	t.Parallel()
	s := setup{}.start(t)
	const name = "lane:1"
	holder := s.client(t, 0)
	g := holder.lock(name)
	c := s.client(t, 1)
	c.want("OK", "CLIENT", "SETNAME", "waits")
	first := s.joinBy(c, "KS.LOCK", name)
	second, third := s.join(t, 1, name), s.join(t, 0, name)
	began := time.Now()
	s.kill(t, s.named(t, "waits"))
	first.AwaitEnd(t)
	if reply, err := first.ReplyWithin(time.Nanosecond); err == nil {
		t.Errorf("a waiter whose lane was killed is answered %q", reply)
	}
	s.awaitLine(t, name, 2)
	took(t, "a waiter whose lane was killed is out of line", began, 100*time.Millisecond, time.Second)
	holder.unlock(name, g)
	inTurn(t, []*waiter{second, third}, g.fence)
	s.awaitFree(t, name)
}

// A proxy is kept without its inbox while twenty others get the
// lock: its fifty waiters are passed over meanwhile and keep their places.
func TestWaitersKeepTheirPlacesWhileTheInboxIsGone(t *testing.T) {
	t.Parallel()
	s := setup{relayed: true}.start(t)
	const name = "inbox:1"
	holder := s.client(t, 0)
	g := holder.lock(name)
	memo := s.client(t, 1) // tells the two subscriptions apart: it waits for a value
	s.client(t, 0).generate("inbox:2", "EX", "60")
	memo.ask("KS.MEMO", "inbox:2")
	s.awaitLine(t, "inbox:2", 1)
	eventually(t, "the proxy is subscribed for the memo caller", func() bool { return len(s.subscriptions(t, 1, 2)) == 1 })

	var away, here []*waiter
	for i := range 70 {
		if i%7 < 5 {
			away = append(away, s.join(t, 1, name))
		} else {
			here = append(here, s.join(t, 0, name))
		}
	}
	s.relays[1].Refuse(true)
	inboxes := s.subscriptions(t, 1, 1)
	if len(inboxes) != 1 {
		t.Fatalf("the inbox may be any of %v", inboxes)
	}
	s.kill(t, inboxes[0])
	s.awaitListeners(t, s.instanceOf(t, away[0]), 0)

	holder.unlock(name, g)
	inTurn(t, here[:19], g.fence)
	last := here[19].granted()
	for _, w := range away {
		w.silent("its proxy can't be rung")
	}
	instance := s.instanceOf(t, away[0])
	s.relays[1].Refuse(false)
	began := time.Now()
	s.awaitListeners(t, instance, 1)
	took(t, "the inbox was back", began, 200*time.Millisecond, 3*time.Second)
	for _, w := range away {
		eventually(t, "they have asked", func() bool { return !marked(s.place(t, name, w.token)) })
	}
	took(t, "all waiters had asked again", began, 400*time.Millisecond, 4*time.Second)
	here[19].unlocks()
	inTurn(t, away, last.fence)
	s.awaitFree(t, name)
}

func TestTheInboxIsKilledInBetween(t *testing.T) {
	t.Parallel()
	s := setup{relayed: true}.start(t)
	const name = "inbox:3"
	holder := s.client(t, 0)
	g := holder.lock(name)
	var here, away []*waiter
	for range 10 {
		away = append(away, s.join(t, 1, name))
		here = append(here, s.join(t, 0, name))
	}
	turns := make(chan error, 2)
	for _, waiters := range [][]*waiter{here, away} {
		go func() { // each proxy's waiters come in order, whatever the other's do
			fence := g.fence
			for i, w := range waiters {
				o := <-collect([]*client{w.client})
				next, err := asGrant(o.reply)
				if o.err != nil || err != nil || next.fence <= fence {
					turns <- fmt.Errorf("waiter %d: %+v after fence %d: %w", i, next, fence, errors.Join(o.err, err))
					return
				}
				fence = next.fence
				w.ask("KS.UNLOCK", name, next.token)
				if o := <-collect([]*client{w.client}); o.reply != int64(1) {
					turns <- fmt.Errorf("waiter %d: KS.UNLOCK answers %v: %w", i, o.reply, o.err)
					return
				}
			}
			turns <- nil
		}()
	}
	for _, p := range s.own(t, 1) { // all at once: inbox, notif and commands
		s.kill(t, p)
	}
	began := time.Now()
	holder.unlock(name, g)
	for range 2 {
		if err := <-turns; err != nil {
			t.Fatal(err)
		}
	}
	took(t, "twenty waiters had their turn while all own connections of a proxy were killed", began, time.Second, 10*time.Second)
	s.awaitFree(t, name)
	s.awaitLine(t, name, 0)
}

func TestAValueThatIsStoredWhileItsSubscriptionIsGone(t *testing.T) {
	t.Parallel()
	s := setup{relayed: true}.start(t)
	const name = "notif:1"
	s.client(t, 0).generate(name, "EX", "60")
	s.join(t, 0, name) // the first in line asks more often
	w := s.joinMemo(t, 1, name)
	eventually(t, "the proxy is subscribed for the memo caller", func() bool { return len(s.subscriptions(t, 1, 2)) == 1 })
	s.relays[1].Refuse(true)
	s.kill(t, s.subscriptions(t, 1, 2)[0])
	eventually(t, "the subscription is gone", func() bool { return len(s.subscriptions(t, 1, 2)) == 0 })
	s.must(t, "SET", name, "v")
	s.must(t, "PUBLISH", keyOf(name, "notif"), "v")
	began := time.Now()
	s.relays[1].Refuse(false)
	wantValue(t, w.next(), "v")
	took(t, "a waiter had the value after its proxy was subscribed again", began, time.Second, 3*time.Second)
}

func TestTheCommandConnectionIsKilled(t *testing.T) {
	t.Parallel()
	s := setup{relayed: true}.start(t)
	const name = "own:1"
	holder := s.client(t, 0)
	g := holder.lock(name)
	leaving, staying := s.join(t, 1, name), s.join(t, 1, name)
	leaving.Close() // by now the proxy has such a connection
	s.awaitLine(t, name, 1)
	leaving = s.join(t, 1, name)
	commands := s.subscriptions(t, 1, 0)
	if len(commands) == 0 {
		t.Fatalf("no command connection among %v", s.own(t, 1))
	}
	for _, p := range commands {
		s.kill(t, p)
	}
	began := time.Now()
	leaving.Close()
	s.awaitLine(t, name, 1)
	took(t, "out of line over a new connection", began, 300*time.Millisecond, 2*time.Second)

	// Its SESSION locks outlive it, and are released over a new one.
	session := s.client(t, 1)
	session.lock("own:2", "SESSION")
	for _, p := range s.subscriptions(t, 1, 0) {
		s.kill(t, p)
	}
	began = time.Now()
	session.Close()
	s.awaitFree(t, "own:2")
	took(t, "a SESSION lock was released over a new connection", began, 300*time.Millisecond, 2*time.Second)
	holder.unlock(name, g)
	inTurn(t, []*waiter{staying}, g.fence)
}

func TestANewcomerPassesWaitersWhoCannotBeReached(t *testing.T) {
	t.Parallel()
	s := setup{relayed: true}.start(t)
	const name = "unreachable:1"
	holder := s.client(t, 0)
	g := holder.lock(name)
	waiters := []*waiter{s.join(t, 1, name), s.join(t, 1, name), s.join(t, 1, name)}
	instance := s.instanceOf(t, waiters[0])
	s.relays[1].Refuse(true)
	for _, p := range s.own(t, 1) {
		s.kill(t, p)
	}
	s.awaitListeners(t, instance, 0)
	thaw := s.freeze(t, 1) // nor do they ask by themselves
	holder.unlock(name, g)
	if owner := s.owner(t, name); owner != "" {
		t.Fatalf("%s has the lock and can't be reached", owner)
	}
	s.awaitLine(t, name, 3)
	newcomer := s.client(t, 0)
	g = newcomer.lock(name, "NOWAIT")
	s.relays[1].Refuse(false)
	thaw()
	s.awaitListeners(t, instance, 1)
	for _, w := range waiters {
		eventually(t, "they have asked", func() bool { return !marked(s.place(t, name, w.token)) })
		w.silent("the newcomer has the lock")
	}
	newcomer.unlock(name, g)
	inTurn(t, waiters, g.fence)
	s.awaitFree(t, name)
	s.nothingLeft(t)
}
