package engine

import (
	"errors"
	"testing"
	"time"
)

func TestAnUnlockThatWaitsBehindItsOwnWaiterIsTold(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		s, holder := b.session(0), b.session(0)
		held := mustLock(t, e, holder, Request{Name: name})
		var deadlock *DeadlockError

		// Sent while the call waits.
		waiting := lockAsync(t.Context(), e, s, Request{Name: name})
		b.inLine(queue, 1)
		e.UnlockAhead(s, "another", held.Token)
		e.UnlockAhead(s, name, "not the holder's")
		e.UnlockAhead(holder, name, held.Token)
		b.eventually("it has looked and waits on", func() bool { return len(e.ahead.tokens(s, name)) == 1 })
		select {
		case got := <-waiting:
			t.Fatalf("ended by an unlock of no use: %+v", got)
		case <-time.After(50 * time.Millisecond): // it has nothing to tell
		}
		e.UnlockAhead(s, name, held.Token)
		if got := wait(t, waiting); !errors.As(got.err, &deadlock) || !deadlock.Behind {
			t.Fatalf("%+v", got)
		}
		if n := b.do("LLEN", queue); n != int64(0) {
			t.Errorf("%v are left in line", n)
		}

		// Read before the call waits, and without the token.
		e.UnlockAhead(holder, name, "")
		if _, err := e.Lock(t.Context(), holder, Request{Name: name}); !errors.As(err, &deadlock) {
			t.Errorf("%v", err)
		}
		if n := e.ahead.some.Load(); n != 0 {
			t.Errorf("the unlocks of %d sessions are still known", n)
		}
		mustUnlock(t, e, holder, name, held.Token)
		mustLock(t, e, s, Request{Name: name})
	})
}

// The lock is handed to the call between its ask and its look at who has it.
func TestACallThatIsGrantedWhileItLooksIsNoDeadlock(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e, other := b.engine(), b.engine()
		holder := b.session(0)
		held := mustLock(t, other, holder, Request{Name: name})
		s := &hookedSession{Session: b.session(0)}
		s.before = func(n int) {
			if n == 2 { // the GET
				mustUnlock(t, other, holder, name, held.Token)
			}
		}
		e.UnlockAhead(s, name, "its own")
		if g, err := e.Lock(t.Context(), s, Request{Name: name, Token: "its own"}); err != nil || g.Token != "its own" {
			t.Fatalf("%+v, %v", g, err)
		}
		mustUnlock(t, e, s, name, "its own")
	})
}
