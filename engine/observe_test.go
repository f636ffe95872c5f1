package engine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

type waitResult struct {
	ended bool
	err   error
}

func waitAsync(ctx context.Context, e *Engine, s Session, bound int64) <-chan waitResult {
	out := make(chan waitResult, 1)
	go func() {
		ended, err := e.Wait(ctx, s, name, bound)
		out <- waitResult{ended, err}
	}()
	return out
}

// observed waits until n KS.WAIT callers of e are known to Redis.
func (b *backend) observed(e *Engine, n int) {
	b.t.Helper()
	b.eventually("observers", func() bool {
		e.waiters.mu.Lock()
		defer e.waiters.mu.Unlock()
		return len(e.waiters.observers[line{0, name}]) == n
	})
	b.eventually("observers in Redis", func() bool {
		watching, _ := b.do("HGET", "likes/fence:kristoff", "w").(string)
		return strings.Contains(watching, e.instance)
	})
}

func TestWaitEndsWithTheHoldThatStood(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e, other := b.engine(), b.engine()
		s := b.session(0)
		if got := wait(t, waitAsync(t.Context(), e, s, 0)); !got.ended || got.err != nil {
			t.Fatalf("nobody holds: %+v", got)
		}
		held := mustLock(t, e, s, Request{Name: name})
		next := lockAsync(t.Context(), e, b.session(0), Request{Name: name})
		b.inLine(queue, 1)
		waiting := []<-chan waitResult{
			waitAsync(t.Context(), e, b.session(0), 0), waitAsync(t.Context(), other, b.session(0), 0),
		}
		b.observed(e, 1)
		b.observed(other, 1)
		mustUnlock(t, e, s, name, held.Token) // handed on: that hold has ended all the same
		for i, w := range waiting {
			if got := wait(t, w); !got.ended || got.err != nil {
				t.Errorf("%d: %+v", i, got)
			}
		}
		granted := wait(t, next)
		if got := wait(t, waitAsync(t.Context(), e, b.session(0), 20)); got.ended || got.err != nil {
			t.Errorf("the next one holds: %+v", got)
		}
		mustUnlock(t, e, s, name, granted.Token)
		if n := e.waiters.count() + len(e.waiters.observers); n != 0 {
			t.Errorf("%d are still registered", n)
		}
	})
}

func TestWaitEndsWhenALeaseRunsOut(t *testing.T) {
	onBothWithin(t, 150*time.Millisecond+atOnce, func(t *testing.T, b *backend) time.Duration {
		e := b.engine()
		mustLock(t, e, b.session(0), Request{Name: name, Lease: 150})
		began := time.Now()
		got := wait(t, waitAsync(t.Context(), e, b.session(0), 0))
		after := time.Since(began)
		if !got.ended || after < 100*time.Millisecond {
			t.Errorf("%+v after %v", got, after)
		}
		return after
	})
}

func TestWaitIsNotFooledByTheSameTokenGrantedAgain(t *testing.T) {
	b := onRedis(t)
	e := b.engine()
	s := b.session(0)
	mustLock(t, e, s, Request{Name: name, Token: "mine"})
	waiting := waitAsync(t.Context(), e, b.session(0), 0)
	b.observed(e, 1)
	mustUnlock(t, e, s, name, "mine")
	mustLock(t, e, s, Request{Name: name, Token: "mine"})
	if got := wait(t, waiting); !got.ended {
		t.Errorf("%+v", got)
	}
}

func TestWaitingForOnesOwnHoldIsAnError(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		s := b.session(0)
		mustLock(t, e, s, Request{Name: name, Session: true})
		var deadlock *DeadlockError
		if _, err := e.Wait(t.Context(), s, name, 0); !errors.As(err, &deadlock) {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		waiting := waitAsync(ctx, e, b.session(0), 0)
		b.observed(e, 1)
		cause := errors.New("hang-up")
		cancel(cause)
		if got := wait(t, waiting); !errors.Is(got.err, cause) {
			t.Errorf("%+v", got)
		}
	})
}
