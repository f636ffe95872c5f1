package engine

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"
)

// What crosses on its way: news and replies, ends and grants, on one proxy and between two.

// notByLooking is less than it takes until somebody looks by himself who was not told.
const notByLooking = 3 * time.Second

// rarely renews long after a test has given up.
func rarely(c *Config) { c.LockTTL = rareTTL }

const rareTTL = 6 * time.Minute

// Each client unlocks its own SESSION lock with its token over the other proxy, which nobody may take for a loss.
func TestUnlocksOverAnotherProxyAreNoLosses(t *testing.T) {
	b := onRedis(t)
	engines := []*Engine{b.engine(), b.engine()}
	var work sync.WaitGroup
	for i := range 4 {
		s, over := b.session(0), b.session(0)
		s.pushed = make(chan []string, 1000)
		work.Go(func() {
			for range 150 {
				got, err := engines[i%2].Lock(t.Context(), s, Request{Name: name, Session: true})
				if err != nil {
					t.Error(err)
					return
				}
				if ok, err := engines[1-i%2].Unlock(t.Context(), over, name, got.Token); !ok || err != nil {
					t.Error(ok, err)
					return
				}
			}
			if len(s.pushed) > 0 {
				t.Errorf("%d were told to be lost, the first %q", len(s.pushed), <-s.pushed)
			}
		})
	}
	work.Wait()
}

// The news that a hold was ended elsewhere is lost with the inbox.
func TestAHoldThatEndedUnheardIsNotWaitedFor(t *testing.T) {
	b := onRedis(t)
	e := b.engine()
	s := b.session(0)
	mustLock(t, e, s, Request{Name: name, Session: true})
	b.do("DEL", lockKey)
	b.do("SET", lockKey, "another's", "PX", 200)
	if _, err := e.Lock(t.Context(), s, Request{Name: name, Wait: 20_000}); err != nil {
		t.Error(err)
	}
}

func TestAReturningInboxHasAllHoldsLookedAt(t *testing.T) {
	b := onRedis(t)
	e := b.engine(rarely)
	s := b.session(0)
	s.pushed = make(chan []string, 10)
	held := mustLock(t, e, s, Request{Name: name, Session: true})
	b.do("DEL", lockKey)
	b.do("CLIENT", "KILL", "TYPE", "pubsub")
	if got := wait(t, s.pushed); got[2] != held.Token {
		t.Errorf("pushed %q", got)
	}
}

// A token may be given up before its grant is booked.
func TestAnUnlockThatOvertakesItsGrantIsNoLoss(t *testing.T) {
	b := onRedis(t)
	e := b.engine(brief)
	s := b.session(0)
	s.pushed = make(chan []string, 10)
	var once sync.Once
	crossing := &afterReply{Session: s, then: func(args []any) {
		if b.do("EXISTS", lockKey) == int64(1) {
			once.Do(func() { mustUnlock(t, e, b.session(0), name, "mine") })
		}
	}}
	mustLock(t, e, crossing, Request{Name: name, Token: "mine", Session: true})
	b.do("SET", lockKey, "another's", "PX", 1500) // three times as long as a loss goes unnoticed
	if _, err := e.Lock(t.Context(), crossing, Request{Name: name, Wait: 20_000}); err != nil {
		t.Errorf("asked again: %v", err)
	}
	if len(s.pushed) > 0 {
		t.Errorf("pushed %q though its token ended it", <-s.pushed)
	}
}

// A lock may be lost between the confirmation of a KS.MLOCK and its reply.
func TestALossIsToldThatComesBeforeTheGrant(t *testing.T) {
	b := onRedis(t)
	e := b.engine(func(c *Config) { c.LockTTL = 3 * time.Second })
	s := b.session(0)
	s.pushed = make(chan []string, 10)
	crossing := &afterReply{Session: s, then: func(args []any) {
		if args[1] != confirmScript.sha && args[1] != confirmScript.source || b.do("DEL", lockKey) != int64(1) {
			return
		}
		b.eventually("it is noticed", func() bool {
			e.holds.mu.Lock()
			defer e.holds.mu.Unlock()
			return !slices.ContainsFunc(e.holds.lines[line{0, name}], func(h *hold) bool { return !h.lost })
		})
	}}
	g, err := e.MLock(t.Context(), crossing, []string{name, "zzz"}, Request{Session: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := wait(t, s.pushed); got[2] != g.Token {
		t.Errorf("pushed %q", got)
	}
}

func TestAnUnlockBehindKSMLOCKIsSeenAtEachOfItsLocks(t *testing.T) {
	b := onRedis(t)
	e := b.engine()
	s := b.session(0)
	behind := mustLock(t, e, s, Request{Name: "b"})
	first := mustLock(t, e, b.session(0), Request{Name: "a"})
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Second, errors.New("still waits"))
	defer cancel()
	out := make(chan error, 1)
	go func() {
		_, err := e.MLock(ctx, s, []string{"a", "b"}, Request{})
		out <- err
	}()
	b.inLine("a/lockwaiting", 1)
	e.UnlockAhead(s, "b", behind.Token)
	mustUnlock(t, e, b.session(0), "a", first.Token)
	var deadlock *DeadlockError
	if err := <-out; !errors.As(err, &deadlock) {
		t.Errorf("got %v, want DEADLOCK", err)
	}
}

// A lease that becomes shorter is told to who waits for its end, and to the first in line who can be told.
func TestAShorterLeaseIsTold(t *testing.T) {
	shorten := map[string]func(t *testing.T, b *backend, e *Engine) (now func()){
		"asked for again": func(t *testing.T, b *backend, e *Engine) func() {
			mustLock(t, e, b.session(0), Request{Name: name, Token: "mine"})
			return func() { mustLock(t, e, b.session(0), Request{Name: name, Token: "mine", Lease: 200}) }
		},
		"confirmed": func(t *testing.T, b *backend, e *Engine) func() {
			last := mustLock(t, e, b.session(0), Request{Name: "zzz"})
			s := b.session(0)
			go e.MLock(t.Context(), s, []string{name, "zzz"}, Request{Lease: 200})
			b.inLine("zzz/lockwaiting", 1)
			return func() { mustUnlock(t, e, b.session(0), "zzz", last.Token) }
		},
	}
	for how, begin := range shorten {
		t.Run(how+", KS.WAIT", func(t *testing.T) {
			b := onRedis(t)
			e := b.engine()
			now := begin(t, b, e)
			waiting := waitAsync(t.Context(), e, b.session(0), 0)
			b.observed(e, 1)
			now()
			began := time.Now()
			if <-waiting; time.Since(began) > notByLooking {
				t.Errorf("answered after %v", time.Since(began))
			}
		})
		t.Run(how+", behind one who is dead", func(t *testing.T) {
			b := onRedis(t)
			e := b.engine()
			now := begin(t, b, e)
			b.do("RPUSH", queue, "ghost")
			b.do("HSET", "likes/lockwaitingset:kristoff", "ghost", "l:deadbeefdeadbeef:7")
			next := lockAsync(t.Context(), e, b.session(0), Request{Name: name})
			b.inLine(queue, 2)
			b.eventually("he knows that he waits", func() bool { return e.waiters.head(line{0, name}) != nil })
			now()
			began := time.Now()
			if got := <-next; got.err != nil || time.Since(began) > notByLooking {
				t.Errorf("granted after %v, %v", time.Since(began), got.err)
			}
		})
	}
}

// A look at the value that is under way when a RESOLVE's bell rings may have come too early, and the next too late.
func TestWhoIsStruckDuringALookAsksIfTheValueIsGone(t *testing.T) {
	b := onRedis(t)
	e, generator := b.engine(), b.engine()
	token := mustGenerate(t, generator, b.session(0))
	w := memoAsync(t.Context(), e, b.session(0), Request{Name: name})
	b.inLine(queue, 1)
	l := line{0, name}
	b.eventually("nobody else looks", func() bool { return e.flight.takeOff(l, false) })
	mustResolve(t, generator, b.session(0), Resolution{Name: name, Token: token, Value: "v"})
	b.do("DEL", name)
	b.eventually("it was rung meanwhile", func() bool {
		e.flight.mu.Lock()
		defer e.flight.mu.Unlock()
		return e.flight.again[l].struck
	})
	began := time.Now()
	for again, struck := e.flight.land(l); again; again, struck = e.flight.land(l) {
		e.fetchOnce(l, struck)
	}
	if got := <-w; got.Token == "" || time.Since(began) > notByLooking {
		t.Errorf("%+v after %v", got, time.Since(began))
	}
}

// Redis takes its time to store a large value, so that its time ends later than it seems to whoever sends it.
func TestALargeValueIsServedStale(t *testing.T) {
	b := onRedis(t)
	e := b.engine()
	s := b.session(0)
	token := mustGenerate(t, e, s)
	mustResolve(t, e, s, Resolution{Token: token, Value: string(make([]byte, 24<<20)), TTL: 1500, Stale: 60_000})
	b.eventually("its time has ended", func() bool { return b.do("EXISTS", name) == int64(0) })
	b.eventually("one makes the next", func() bool {
		m, err := e.Memo(t.Context(), s, Request{Name: name, NoWait: true})
		return err == nil && m.Token != ""
	})
	if m, err := e.Memo(t.Context(), b.session(0), Request{Name: name, NoWait: true}); err != nil || !m.Stale {
		t.Errorf("not served: %v", err)
	}
}

func TestKSWAITLeavesNoSubscriptionBehind(t *testing.T) {
	b := onRedis(t)
	e := b.engine(func(c *Config) { c.KeySmith = true })
	mustLock(t, e, b.session(0), Request{Name: name})
	ctx, cancel := context.WithCancel(t.Context())
	waiting := lockAsync(ctx, e, b.session(0), Request{Name: name})
	b.inLine(queue, 1)
	after, end := context.WithCancel(t.Context())
	observer := waitAsync(after, e, b.session(0), 0)
	b.observed(e, 1)
	cancel()
	<-waiting
	end()
	<-observer
	b.eventually("nothing is followed", func() bool {
		e.notif.mu.Lock()
		defer e.notif.mu.Unlock()
		return len(e.notif.names) == 0
	})
}

// What is ended of one departure is not undone by another of the same batch.
func TestDeparturesOfABatchDoNotUndoEachOther(t *testing.T) {
	b := onRedis(t)
	e := b.engine()
	k, _ := keysOf(name, "first")
	his, stale := departure{token: "his", seq: 2}, departure{token: "earlier", seq: 1}
	for _, who := range [][]departure{{his, stale}, {stale, his}} {
		b.do("HSET", k.fence, "n", 5, "tok", "earlier", "att", "l:"+e.instance+":1", "st", "h", "own", "s")
		b.do("SET", k.lock, "his", "PX", 30_000) // KeySmith handed it over
		if errs := e.sendDepartures(t.Context(), []batch{{party{line{0, name}, false}, who}}); errs[0] != nil {
			t.Fatal(errs)
		}
		if owner := b.do("GET", k.lock); owner != nil {
			t.Errorf("left %q, then %q: %v holds the lock", who[0].token, who[1].token, owner)
		}
	}
}

// What others have ended need not be remembered for a connection that goes on for ever.
func TestGrantsThatOthersEndedAreForgotten(t *testing.T) {
	b := onMiniredis(t)
	e := b.engine()
	s, other := b.session(0), b.session(0)
	for i := range lastMost + lastMost/4 {
		n := name + string(rune('a'+i%26)) + time.Duration(i).String()
		g := mustLock(t, e, s, Request{Name: n, Session: true})
		mustUnlock(t, e, other, n, g.Token)
	}
	e.holds.mu.Lock()
	defer e.holds.mu.Unlock()
	if n := len(e.holds.sessions[s].last); n > lastMost/2 {
		t.Errorf("%d last grants are kept", n)
	}
}

// A grant that was long on its way is due earlier than what the watchdog waits for.
func TestAHoldThatIsBookedLateIsRenewedInTime(t *testing.T) {
	b := onRedis(t)
	e := b.engine(rarely)
	mustLock(t, e, b.session(0), Request{Name: "another", Session: true})
	s := b.session(0)
	mustLock(t, e, s, Request{Name: name, Session: true})
	e.holds.mu.Lock()
	h := e.holds.lines[line{0, name}][0]
	e.holds.drop(h)
	h.trusted = h.trusted.Add(-rareTTL * 5 / 6)
	h.next = h.next.Add(-rareTTL * 5 / 6)
	booked := h.trusted
	e.holds.keep(e.holds.sessions[s], h)
	e.holds.mu.Unlock()
	b.eventually("it is renewed", func() bool {
		e.holds.mu.Lock()
		defer e.holds.mu.Unlock()
		return h.trusted != booked
	})
}
