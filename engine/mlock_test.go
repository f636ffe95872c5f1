package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

type multiResult struct {
	MultiGrant
	err error
}

func mlockAsync(ctx context.Context, e *Engine, s Session, names []string, r Request) <-chan multiResult {
	out := make(chan multiResult, 1)
	go func() {
		g, err := e.MLock(ctx, s, names, r)
		out <- multiResult{g, err}
	}()
	return out
}

func (b *backend) owner(name string) string {
	b.t.Helper()
	owner, _ := b.do("GET", name+"/lock").(string)
	return owner
}

func TestMLockTakesAllWithOneToken(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		s := b.session(0)
		names := []string{"c", "a", "b"}
		g, err := e.MLock(t.Context(), s, names, Request{Lease: 60_000})
		if err != nil || len(g.Fences) != 3 {
			t.Fatal(g, err)
		}
		for i, name := range names {
			if b.owner(name) != g.Token {
				t.Errorf("%s is %q's", name, b.owner(name))
			}
			if n := fmt.Sprint(g.Fences[i]); b.do("HGET", name+"/fence", "n") != n {
				t.Errorf("fence of %s is not %s", name, n)
			}
			if left := b.do("PTTL", name+"/lock").(int64); left < 50_000 || left > 60_000 {
				t.Errorf("%s has %d ms left", name, left)
			}
			if own := b.do("HGET", name+"/fence", "own").(string); !strings.HasPrefix(own, "l") {
				t.Errorf("%s is held as %q", name, own)
			}
		}
		if n := len(e.holds.held); n != 0 {
			t.Errorf("%d leases are renewed", n)
		}
		again, err := e.MLock(t.Context(), b.session(0), names, Request{Token: g.Token, Lease: 500})
		if err != nil || fmt.Sprint(again) != fmt.Sprint(g) {
			t.Errorf("asked again: %v, %v, not %v", again, err, g)
		}
		for _, name := range names {
			mustUnlock(t, e, s, name, g.Token)
		}
	})
}

func TestMLockHoldsNothingWhenItDoesNotGetAll(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		held := mustLock(t, e, b.session(0), Request{Name: "b"})
		cause := errors.New("hang-up")
		hungUp, hangUp := context.WithCancelCause(t.Context())
		defer hangUp(nil)
		for _, row := range []struct {
			ctx  context.Context
			r    Request
			want error
		}{
			{t.Context(), Request{NoWait: true}, ErrNotGranted},
			{t.Context(), Request{Wait: 50}, ErrNotGranted},
			{t.Context(), Request{Wait: 50, Session: true, Token: "mine"}, ErrNotGranted},
			{hungUp, Request{}, cause},
		} {
			s := b.session(0)
			got := mlockAsync(row.ctx, e, s, []string{"a", "b", "c"}, row.r)
			if row.want == cause {
				b.inLine("b/lockwaiting", 2) // the place of the call with a token is kept
				hangUp(cause)
			}
			if got := wait(t, got); !errors.Is(got.err, row.want) {
				t.Errorf("%+v: %+v", row.r, got)
			}
			if b.owner("a") != "" || b.owner("c") != "" || b.owner("b") != held.Token {
				t.Errorf("%+v: a %q b %q c %q", row.r, b.owner("a"), b.owner("b"), b.owner("c"))
			}
			if n := len(e.holds.held); n != 0 {
				t.Errorf("%d are renewed", n)
			}
		}
	})
}

func TestMLockKeepsWhatItHasWhileItWaits(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine(func(c *Config) { c.LockTTL = time.Second })
		s := b.session(0)
		held := mustLock(t, e, s, Request{Name: "b", Lease: 60_000})
		got := mlockAsync(t.Context(), e, b.session(0), []string{"b", "a"}, Request{Lease: 20_000})
		b.inLine("b/lockwaiting", 1)
		if _, err := e.Lock(t.Context(), b.session(0), Request{Name: "a", Wait: 2500}); !errors.Is(err, ErrNotGranted) {
			t.Fatalf("a was taken away: %v", err)
		}
		mustUnlock(t, e, s, "b", held.Token)
		if g := wait(t, got); g.err != nil {
			t.Fatal(g.err)
		}
		for _, name := range []string{"a", "b"} {
			if left := b.do("PTTL", name+"/lock").(int64); left < 15_000 {
				t.Errorf("the lease of %s has %d ms left", name, left)
			}
		}
	})
}

// What was taken first is lost while the next is awaited: all over again, without a word.
func TestMLockStartsOverWhenALockIsLost(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		s, m := b.session(0), b.session(0)
		m.pushed = make(chan []string, 10)
		held := mustLock(t, e, s, Request{Name: "b"})
		got := mlockAsync(t.Context(), e, m, []string{"a", "b"}, Request{Session: true})
		b.inLine("b/lockwaiting", 1)
		b.do("DEL", "a/lock")
		thief := mustLock(t, e, s, Request{Name: "a"})
		mustUnlock(t, e, s, "b", held.Token)
		b.inLine("a/lockwaiting", 1)
		mustUnlock(t, e, s, "a", thief.Token)
		g := wait(t, got)
		if g.err != nil || b.owner("a") != g.Token || b.owner("b") != g.Token {
			t.Fatalf("%+v, a %q, b %q", g, b.owner("a"), b.owner("b"))
		}
		if len(m.pushed) > 0 {
			t.Errorf("told %q", <-m.pushed)
		}
		if n := len(e.holds.held); n != 2 {
			t.Errorf("%d are renewed", n)
		}
		e.Ended(m)
		b.eventually("both are released", func() bool { return b.owner("a") == "" && b.owner("b") == "" })
	})
}

func TestMLockCallersNeverDeadlockWhateverTheOrder(t *testing.T) {
	b := onRedis(t)
	engines := []*Engine{b.engine(), b.engine()}
	names := []string{"a", "b", "c", "d", "e"} // forks
	var mu sync.Mutex
	eating := map[string]int{}
	var group sync.WaitGroup
	for i := range 5 {
		s := b.session(0)
		group.Go(func() {
			left, right := names[i], names[(i+1)%5]
			for range 60 {
				both := []string{left, right}
				rand.Shuffle(2, func(i, j int) { both[i], both[j] = both[j], both[i] })
				g, err := engines[i%2].MLock(t.Context(), s, both, Request{Lease: 20_000})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, fork := range both {
					if eating[fork]++; eating[fork] != 1 {
						t.Errorf("%s has two owners", fork)
					}
				}
				mu.Unlock()
				mu.Lock()
				for _, fork := range both {
					eating[fork]--
				}
				mu.Unlock()
				for _, fork := range both {
					if ok, err := engines[(i+1)%2].Unlock(t.Context(), s, fork, g.Token); !ok || err != nil {
						t.Errorf("unlock %s: %v, %v", fork, ok, err)
					}
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(60 * time.Second):
		t.Fatal("they wait for each other")
	}
}

// A caller that has sent KS.MLOCK again on another connection has what that one was granted: the earlier call,
// which finds its locks taken over, takes none of them back.
func TestAnEarlierMLockWithTheSameTokenTakesNothingBack(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		one, two := b.engine(), b.engine()
		names := []string{"a", "b"}
		for _, hungUp := range []bool{false, true} {
			ctx, hangUp := context.WithCancel(t.Context())
			defer hangUp()
			held := mustLock(t, one, b.session(0), Request{Name: "b"})
			var later MultiGrant
			resends := &confirming{Session: b.session(0), before: func() {
				var err error
				if later, err = two.MLock(t.Context(), b.session(0), names, Request{Token: "mine", Lease: 60_000}); err != nil {
					t.Error(err)
				}
				if hungUp {
					hangUp()
				}
			}}
			earlier := mlockAsync(ctx, one, resends, names, Request{Token: "mine"})
			b.inLine("b/lockwaiting", 1)
			mustUnlock(t, one, b.session(0), "b", held.Token)
			if got := wait(t, earlier); got.err == nil || !hungUp && !errors.Is(got.err, ErrNotGranted) {
				t.Errorf("hung up: %v; the earlier call: %+v", hungUp, got)
			}
			for i, name := range names {
				att, _ := b.do("HGET", name+"/fence", "att").(string)
				if b.owner(name) != "mine" || !strings.HasPrefix(att, "l:"+two.instance) {
					t.Errorf("hung up: %v; %s, granted to the later call with %v, is %q's by %s", hungUp, name, later, b.owner(name), att)
				} else if left := b.do("PTTL", name+"/lock").(int64); left < 50_000 {
					t.Errorf("%s has %d ms left", names[i], left)
				}
				mustUnlock(t, two, b.session(0), name, "mine")
			}
		}
	})
}

// confirming is the session of a KS.MLOCK caller of two names; before runs ahead of its first confirmation.
type confirming struct {
	Session
	before func()
	asked  atomic.Bool // it was answered
}

func (s *confirming) Do(ctx context.Context, args ...any) (any, error) {
	confirms := len(args) > 2 && args[2] == 8 // keys
	if before := s.before; before != nil && confirms {
		s.before = nil
		before()
	}
	reply, err := s.Session.Do(ctx, args...)
	if confirms {
		s.asked.Store(true)
	}
	return reply, err
}
