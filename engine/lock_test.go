package engine

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
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

const (
	name    = "likes:kristoff"
	lockKey = "likes/lock:kristoff"
	queue   = "likes/lockwaiting:kristoff"
)

func TestAProxyHandsOverToAnotherProxysWaiterInTheOrderOfArrival(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		engines := []*Engine{b.engine(), b.engine()}
		held := mustLock(t, engines[0], b.session(0), Request{Name: name})
		var line []<-chan lockResult
		for i := range 6 {
			line = append(line, lockAsync(t.Context(), engines[i%2], b.session(0), Request{Name: name}))
			b.inLine(queue, int64(i+1))
		}
		s := b.session(0)
		for i, next := range line {
			mustUnlock(t, engines[0], s, name, held.Token)
			got := wait(t, next)
			if got.err != nil || got.Fence <= held.Fence {
				t.Fatalf("waiter %d: %+v after fence %d", i, got, held.Fence)
			}
			held = got.Grant
		}
	})
}

func TestWhoHangsUpLeavesTheLineAndIsNotGranted(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		s := b.session(0)
		held := mustLock(t, e, s, Request{Name: name})
		hangUp := errors.New("hung up")
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := lockAsync(ctx, e, b.session(0), Request{Name: name})
		b.inLine(queue, 1)
		next := lockAsync(t.Context(), e, b.session(0), Request{Name: name})
		b.inLine(queue, 2)
		cancel(hangUp)
		if got := wait(t, gone); !errors.Is(got.err, hangUp) {
			t.Fatalf("got %+v", got)
		}
		if n := b.do("LLEN", queue); n != int64(1) {
			t.Errorf("%d in line after the answer", n)
		}
		mustUnlock(t, e, s, name, held.Token)
		if got := wait(t, next); got.err != nil {
			t.Fatalf("next: %v", got.err)
		}
	})
}

func TestWhatNeedNotWaitIsAnsweredEvenAfterAHangUp(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s := b.session(0)
		g, err := e.Lock(ctx, s, Request{Name: name})
		if err != nil {
			t.Fatalf("free lock: %v", err)
		}
		if _, err := e.Lock(ctx, b.session(0), Request{Name: name}); !errors.Is(err, context.Canceled) {
			t.Fatalf("held lock: %v", err)
		}
		if n := b.do("EXISTS", queue); n != int64(0) {
			t.Error("who hung up is in line")
		}
		if ok, err := e.Unlock(ctx, s, name, g.Token); !ok || err != nil {
			t.Errorf("unlock: %v, %v", ok, err)
		}
	})
}

func TestWaitEndsWithNothingLeftBehind(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		mustLock(t, e, b.session(0), Request{Name: name})
		began := time.Now()
		_, err := e.Lock(t.Context(), b.session(0), Request{Name: name, Wait: 50})
		if !errors.Is(err, ErrNotGranted) {
			t.Fatalf("got %v", err)
		}
		if took := time.Since(began); took < 50*time.Millisecond || took > 2*time.Second {
			t.Errorf("waited %v", took)
		}
		if n := b.do("EXISTS", queue, "likes/lockwaitingset:kristoff"); n != int64(0) {
			t.Errorf("%d keys of the line are left", n)
		}
		if n := e.waiters.count(); n != 0 {
			t.Errorf("%d waiters are still registered", n)
		}
	})
}

// atOnce tells a bell, or a timer at the lease's end (25 ms), from a recheck (800 ms at least).
const atOnce = 500 * time.Millisecond

func TestALeaseThatRunsOutGoesToTheFirstInLineAtOnce(t *testing.T) {
	onBothWithin(t, atOnce, func(t *testing.T, b *backend) time.Duration {
		dead, live := b.engine(), b.engine()
		mustLock(t, dead, b.session(0), Request{Name: name, Lease: 3_600_000})
		next := lockAsync(t.Context(), live, b.session(0), Request{Name: name})
		b.inLine(queue, 1)
		b.do("PEXPIRE", lockKey, 300) // the lease is shortened; whoever does it rings the first
		live.waiters.ringAll(time.Millisecond)
		began := time.Now()
		got := wait(t, next)
		late := got.at.Sub(began) - 300*time.Millisecond
		if got.err != nil {
			t.Errorf("not granted %v after the lease's end: %v", late, got.err)
		}
		return late
	})
}

func TestASuccessorOfAShortLeaseIsNotKeptWaitingForALongOne(t *testing.T) {
	onBothWithin(t, atOnce, func(t *testing.T, b *backend) time.Duration {
		e, other := b.engine(), b.engine()
		s := b.session(0)
		held := mustLock(t, e, s, Request{Name: name, Lease: 3_600_000})
		short := lockAsync(t.Context(), e, b.session(0), Request{Name: name, Lease: 200})
		b.inLine(queue, 1)
		next := lockAsync(t.Context(), other, b.session(0), Request{Name: name})
		b.inLine(queue, 2)
		mustUnlock(t, e, s, name, held.Token)
		one := wait(t, short) // and it dies
		two := wait(t, next)
		late := two.at.Sub(one.at) - 200*time.Millisecond
		if two.err != nil {
			t.Errorf("not granted %v after the short lease's end: %v", late, two.err)
		}
		return late
	})
}

// frozen puts a waiter of a proxy into the line that is subscribed but does nothing.
func (b *backend) frozen(instance, token string) {
	b.t.Helper()
	ps := b.c.Subscribe(b.t.Context(), inboxPrefix+instance)
	if _, err := ps.Receive(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { ps.Close() })
	k, _ := keysOf(name, "first")
	_, err := askLockScript.run(b.t.Context(), ownConn{b.c}, k.ofLine(),
		[]any{"", 0, instance, name, k.locknotif, 30000, token, 1, 1, 30000, 0, 0})
	if err != nil {
		b.t.Fatal(err)
	}
}

func TestAFrozenProxyCostsTheLineOneClaimWindow(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		s := b.session(0)
		held := mustLock(t, e, s, Request{Name: name})
		b.frozen("F", "f1")
		b.frozen("F", "f2")
		b.frozen("F", "f3")
		next := lockAsync(t.Context(), e, b.session(0), Request{Name: name})
		b.inLine(queue, 4)
		began := time.Now()
		mustUnlock(t, e, s, name, held.Token)
		got := wait(t, next)
		if took := got.at.Sub(began); got.err != nil || took < 1900*time.Millisecond || took > 3500*time.Millisecond {
			t.Errorf("granted after %v: %v", took, got.err)
		}
		if n := b.do("LLEN", queue); n != int64(3) {
			t.Errorf("%d of the frozen proxy's waiters kept their place", n)
		}
	})
}

func TestADeadProxyCostsTheLineNothing(t *testing.T) {
	onBothWithin(t, atOnce, func(t *testing.T, b *backend) time.Duration {
		e := b.engine()
		s := b.session(0)
		monitor := b.c.PSubscribe(t.Context(), "*") // a stranger, for whom PUBLISH counts a receiver
		defer monitor.Close()
		if _, err := monitor.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		held := mustLock(t, e, s, Request{Name: name})
		k, _ := keysOf(name, "first")
		_, err := askLockScript.run(t.Context(), ownConn{b.c}, k.ofLine(),
			[]any{"", 0, "D", name, k.locknotif, 30000, "d1", 1, 1, 30000, 0, 0})
		if err != nil {
			t.Fatal(err)
		}
		next := lockAsync(t.Context(), e, b.session(0), Request{Name: name})
		b.inLine(queue, 2)
		began := time.Now()
		mustUnlock(t, e, s, name, held.Token)
		got := wait(t, next)
		if got.err != nil {
			t.Errorf("not granted after %v: %v", got.at.Sub(began), got.err)
		}
		return got.at.Sub(began)
	})
}

func TestABellForACallThatIsOverGivesBackWhatWasHandedToIt(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		s := b.session(0)
		held := mustLock(t, e, s, Request{Name: name})
		// A place whose call this proxy has forgotten.
		c, err := e.newCall(t.Context(), b.session(0), false, mustKeys(t), Request{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		c.seq = e.waiters.nextSeq()
		if _, err := e.ask(t.Context(), c, true, false); err != nil {
			t.Fatal(err)
		}
		// Another proxy's unlock rings it.
		mustUnlock(t, b.engine(), s, name, held.Token)
		b.eventually("free", func() bool { return b.do("EXISTS", lockKey) == int64(0) })
	})
}

func mustKeys(t *testing.T) keys {
	t.Helper()
	k, err := keysOf(name, "first")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestWaitersSurviveTheLossOfTheInbox(t *testing.T) {
	b := onRedis(t)
	e, other := b.engine(), b.engine()
	s := b.session(0)
	held := mustLock(t, other, s, Request{Name: name})
	var line []<-chan lockResult
	for i := range 20 {
		line = append(line, lockAsync(t.Context(), e, b.session(0), Request{Name: name}))
		b.inLine(queue, int64(i+1))
	}
	b.do("CLIENT", "KILL", "TYPE", "pubsub")
	for i, next := range line { // handed over, or taken when they ask after the reconnection
		if ok, err := other.Unlock(t.Context(), s, name, held.Token); !ok || err != nil {
			t.Fatalf("unlock %d: %v, %v", i, ok, err)
		}
		got := wait(t, next)
		if got.err != nil || got.Fence <= held.Fence {
			t.Fatalf("waiter %d: %+v", i, got)
		}
		held = got.Grant
	}
}

func TestTwoDatabasesAreTwoLocks(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		zero, five := b.session(0), b.session(5)
		inZero := mustLock(t, e, zero, Request{Name: name})
		inFive := mustLock(t, e, five, Request{Name: name})
		ctx, cancel := context.WithCancel(t.Context())
		waiting := lockAsync(ctx, e, b.session(5), Request{Name: name})
		inLine := func() any {
			reply, err := five.Do(t.Context(), "LLEN", queue)
			if err != nil {
				t.Fatal(err)
			}
			return reply
		}
		b.eventually("in line in 5", func() bool { return inLine() == int64(1) })
		mustUnlock(t, e, zero, name, inZero.Token)
		cancel() // the departure must go to database 5
		if got := wait(t, waiting); !errors.Is(got.err, context.Canceled) {
			t.Fatalf("got %+v", got)
		}
		if n := inLine(); n != int64(0) {
			t.Errorf("%v in line in 5", n)
		}
		mustUnlock(t, e, five, name, inFive.Token)
	})
}

func TestTooManyWaitersAreRefusedButWhatNeedNotWaitIsServed(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine(func(c *Config) { c.MaxWaiters = 1 })
		mustLock(t, e, b.session(0), Request{Name: name})
		ctx, cancel := context.WithCancel(t.Context())
		waiting := lockAsync(ctx, e, b.session(0), Request{Name: name})
		b.inLine(queue, 1)
		if _, err := e.Lock(t.Context(), b.session(0), Request{Name: name}); !errors.Is(err, ErrTooManyWaiters) {
			t.Errorf("got %v", err)
		}
		mustLock(t, e, b.session(0), Request{Name: "free"})
		cancel()
		wait(t, waiting)
	})
}

func TestRefusedCredentialsAreNamed(t *testing.T) {
	b := onRedis(t)
	b.do("CONFIG", "SET", "requirepass", "secret")
	b.opt.Password = "secret"
	c := b.client(func(*redis.Options) {})
	t.Cleanup(func() {
		c.ConfigSet(context.Background(), "requirepass", "")
		c.Close()
	})
	for _, password := range []string{"", "wrong"} {
		e := b.engine(func(cfg *Config) {
			cfg.NewClient = func() *redis.Client {
				return b.client(func(o *redis.Options) { o.Password = password })
			}
		})
		_, err := e.Lock(t.Context(), b.session(0), Request{Name: name})
		var unavailable *UnavailableError
		if !errors.As(err, &unavailable) || !strings.Contains(err.Error(), "upstream-password") {
			t.Errorf("with password %q: %v", password, err)
		}
	}
}

func TestWithoutRedisCallsAreRefusedNotLeftHanging(t *testing.T) {
	b := onMiniredis(t)
	s := b.session(0)
	e := b.engine(func(cfg *Config) {
		cfg.NewClient = func() *redis.Client { return b.client(func(o *redis.Options) { o.Addr = "127.0.0.1:1" }) }
	})
	var unavailable *UnavailableError
	if _, err := e.Lock(t.Context(), s, Request{Name: name}); !errors.As(err, &unavailable) {
		t.Errorf("got %v", err)
	}
}

func TestACallWhoseSessionBreaksLeavesTheLine(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		mustLock(t, e, b.session(0), Request{Name: name})
		broken := &breakingSession{Session: b.session(0), after: 1}
		lost := lockAsync(t.Context(), e, broken, Request{Name: name})
		b.inLine(queue, 1)
		e.waiters.ringAll(time.Millisecond)
		if got := wait(t, lost); !errors.Is(got.err, errBroken) {
			t.Fatalf("got %+v", got)
		}
		b.inLine(queue, 0)
	})
}

var errBroken = errors.New("session is broken")

// breakingSession executes all its commands, and after some of them withholds the reply.
type breakingSession struct {
	Session
	after int // replies
}

func (s *breakingSession) Do(ctx context.Context, args ...any) (any, error) {
	reply, err := s.Session.Do(ctx, args...)
	if s.after == 0 {
		return nil, errBroken
	}
	if err == nil {
		s.after--
	}
	return reply, err
}

func TestAGrantThatCrossesTheEndIsHandedOn(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e, other := b.engine(), b.engine()
		s := b.session(0)
		held := mustLock(t, other, s, Request{Name: name})
		ctx, cancel := context.WithCancel(t.Context())
		crossing := &hookedSession{Session: b.session(0), before: func(n int) {
			if n == 2 { // the ask that claims is under way when the client hangs up
				cancel()
			}
		}}
		crossed := lockAsync(ctx, e, crossing, Request{Name: name})
		b.inLine(queue, 1)
		next := lockAsync(t.Context(), e, b.session(0), Request{Name: name})
		b.inLine(queue, 2)
		mustUnlock(t, other, s, name, held.Token)
		if got := wait(t, crossed); !errors.Is(got.err, context.Canceled) {
			t.Fatalf("got %+v", got)
		}
		if got := wait(t, next); got.err != nil {
			t.Fatalf("next: %v", got.err)
		}
	})
}

// The unlock of the waiter's own proxy hands him the lock, and he is gone before he is told.
func TestALockHandedToOneWhoHangsUpIsHandedOn(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		s := b.session(0)
		held := mustLock(t, e, s, Request{Name: name})
		ctx, cancel := context.WithCancel(t.Context())
		crossed := lockAsync(ctx, e, b.session(0), Request{Name: name})
		b.inLine(queue, 1)
		next := lockAsync(t.Context(), e, b.session(0), Request{Name: name})
		b.inLine(queue, 2)
		unlocking := &afterReply{s, func(args []any) {
			if b.c.Get(t.Context(), "likes/lock:kristoff").Val() != held.Token {
				cancel()
			}
		}}
		mustUnlock(t, e, unlocking, name, held.Token)
		if got := wait(t, crossed); !errors.Is(got.err, context.Canceled) {
			t.Fatalf("got %+v", got)
		}
		if got := wait(t, next); got.err != nil {
			t.Fatalf("next: %v", got.err)
		}
	})
}

// afterReply calls a function after each reply, before anyone has seen it.
type afterReply struct {
	Session
	then func(args []any)
}

func (s *afterReply) Do(ctx context.Context, args ...any) (any, error) {
	reply, err := s.Session.Do(ctx, args...)
	s.then(args)
	return reply, err
}

// hookedSession calls before its nth command that Redis does not answer with NOSCRIPT.
type hookedSession struct {
	Session
	n      int
	before func(n int)
}

func (s *hookedSession) Do(ctx context.Context, args ...any) (any, error) {
	if s.before != nil {
		s.before(s.n + 1)
	}
	reply, err := s.Session.Do(ctx, args...)
	if !isNoScript(err) {
		s.n++
	}
	return reply, err
}

func TestACloseSendsTheDeparturesThatAreDue(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		mustLock(t, e, b.session(0), Request{Name: name})
		ctx, cancel := context.WithCancel(t.Context())
		var line []<-chan lockResult
		for range 50 {
			line = append(line, lockAsync(ctx, e, b.session(0), Request{Name: name}))
		}
		b.inLine(queue, 50)
		cancel()
		for _, l := range line {
			wait(t, l)
		}
		if err := e.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := b.do("LLEN", queue); n != int64(0) {
			t.Errorf("%d still in line", n)
		}
	})
}

func TestManyClientsOfTwoProxiesNeverHoldAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		const clients, rounds = 8, 20
		var holders atomic.Int32
		var lastFence int64 // guarded by the lock itself
		var all sync.WaitGroup
		engines := []*Engine{b.engine(), b.engine()}
		for i := range clients {
			e, s := engines[i%2], b.session(0)
			all.Go(func() {
				for range rounds {
					g, err := e.Lock(t.Context(), s, Request{Name: name})
					if err != nil {
						t.Errorf("lock: %v", err)
						return
					}
					if n := holders.Add(1); n != 1 || g.Fence <= lastFence {
						t.Errorf("%d holders, fence %d after %d", n, g.Fence, lastFence)
					}
					lastFence = g.Fence
					holders.Add(-1)
					if ok, err := engines[(i+1)%2].Unlock(t.Context(), s, name, g.Token); !ok || err != nil {
						t.Errorf("unlock: %v, %v", ok, err)
					}
				}
			})
		}
		all.Wait()
	})
}

// The lock is handed to a call, and the call ends before it has asked again: it passes the lock on by itself, so nobody
// waits for the end of the claim window, and its proxy is not suspect.
func TestALockThatIsHandedToACallAsItEndsIsPassedOn(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e, other := b.engine(), b.engine()
		for _, end := range []string{"the client hangs up", "WAIT is over"} {
			s := b.session(0)
			held := mustLock(t, other, s, Request{Name: name})
			c, err := e.newCall(t.Context(), b.session(0), false, mustKeys(t), Request{Name: name})
			if err != nil {
				t.Fatal(err)
			}
			w := e.waiters.add(c.line, c.req.Token, false)
			defer e.waiters.remove(w)
			c.seq = w.seq
			a, err := e.ask(t.Context(), c, true, false)
			if err != nil || a.verdict != waits {
				t.Fatal(a, err)
			}
			next := lockAsync(t.Context(), other, b.session(0), Request{Name: name})
			b.inLine(queue, 2)
			mustUnlock(t, other, s, name, held.Token)
			wait(t, (<-chan struct{})(w.bell)) // it rings, and is not heard

			ctx, hangUp := context.WithCancel(t.Context())
			defer hangUp()
			over := make(chan time.Time, 1)
			if end == "WAIT is over" {
				over <- time.Now()
			} else {
				hangUp()
			}
			if _, done, err := e.rest(ctx, c, w, a, over); !done || err == nil {
				t.Errorf("%s: %v, %v", end, done, err)
			}
			g := wait(t, next)
			if g.err != nil {
				t.Fatalf("%s: next: %v", end, g.err)
			}
			if x, _ := b.do("HGET", "likes/fence:kristoff", "x").(string); x != "" {
				t.Errorf("%s: %s is suspect, so the next waited for the end of the claim window", end, x)
			}
			mustUnlock(t, other, b.session(0), name, g.Token)
		}
	})
}
