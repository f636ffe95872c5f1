package engine

import (
	"context"
	"errors"
	"testing"
	"time"
)

type lockResult struct {
	Grant
	err error
	at  time.Time
}

// lockAsync calls Lock and delivers its result.
func lockAsync(ctx context.Context, e *Engine, s Session, r Request) <-chan lockResult {
	out := make(chan lockResult, 1)
	go func() {
		g, err := e.Lock(ctx, s, r)
		out <- lockResult{g, err, time.Now()}
	}()
	return out
}

func mustLock(t *testing.T, e *Engine, s Session, r Request) Grant {
	t.Helper()
	g, err := e.Lock(t.Context(), s, r)
	if err != nil {
		t.Fatalf("lock %s: %v", r.Name, err)
	}
	return g
}

func mustUnlock(t *testing.T, e *Engine, s Session, name, token string) {
	t.Helper()
	ok, err := e.Unlock(t.Context(), s, name, token)
	if err != nil || !ok {
		t.Fatalf("unlock %s: %v, %v", name, ok, err)
	}
}

func wait[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("no answer")
		panic("unreachable")
	}
}

func TestAnUnlockHandsTheLockToTheFirstInLine(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		s := b.session(0)
		held := mustLock(t, e, s, Request{Name: "likes:kristoff"})
		first := lockAsync(t.Context(), e, b.session(0), Request{Name: "likes:kristoff"})
		b.inLine("likes/lockwaiting:kristoff", 1)
		second := lockAsync(t.Context(), e, b.session(0), Request{Name: "likes:kristoff"})
		b.inLine("likes/lockwaiting:kristoff", 2)

		mustUnlock(t, e, s, "likes:kristoff", held.Token)
		one := wait(t, first)
		if one.err != nil || one.Fence <= held.Fence {
			t.Fatalf("first: %+v after %d", one, held.Fence)
		}
		mustUnlock(t, e, s, "likes:kristoff", one.Token)
		two := wait(t, second)
		if two.err != nil || two.Fence <= one.Fence {
			t.Fatalf("second: %+v after %d", two, one.Fence)
		}
		mustUnlock(t, e, s, "likes:kristoff", two.Token)
		if keys := b.do("EXISTS", "likes/lock:kristoff", "likes/lockwaiting:kristoff", "likes/lockwaitingset:kristoff"); keys != int64(0) {
			t.Errorf("%d keys are left", keys)
		}
	})
}

func TestNoWaitIsRefusedAndLeavesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		s := b.session(0)
		mustLock(t, e, s, Request{Name: "nightly"})
		if _, err := e.Lock(t.Context(), s, Request{Name: "nightly", NoWait: true}); !errors.Is(err, ErrNotGranted) {
			t.Fatalf("got %v", err)
		}
		if n := b.do("EXISTS", "nightly/lockwaiting", "nightly/lockwaitingset"); n != int64(0) {
			t.Errorf("%d keys are left", n)
		}
	})
}
