package engine

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

type memoResult struct {
	Memo
	err error
}

func memoAsync(ctx context.Context, e *Engine, s Session, r Request) <-chan memoResult {
	out := make(chan memoResult, 1)
	go func() {
		m, err := e.Memo(ctx, s, r)
		out <- memoResult{m, err}
	}()
	return out
}

func mustGenerate(t *testing.T, e *Engine, s Session) string {
	t.Helper()
	m, err := e.Memo(t.Context(), s, Request{Name: name})
	if err != nil || m.Token == "" {
		t.Fatalf("no promise: %+v, %v", m, err)
	}
	return m.Token
}

func mustResolve(t *testing.T, e *Engine, s Session, r Resolution) {
	t.Helper()
	r.Name = name
	if ok, err := e.Resolve(t.Context(), s, r); !ok || err != nil {
		t.Fatalf("resolve: %v, %v", ok, err)
	}
}

// countingSession counts the commands its caller's session is asked.
type countingSession struct {
	Session
	n atomic.Int64
}

func (s *countingSession) Do(ctx context.Context, args ...any) (any, error) {
	s.n.Add(1)
	return s.Session.Do(ctx, args...)
}

func TestOneGeneratesAndAllWaitersOnAllProxiesGetTheValue(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		one, two := b.engine(), b.engine()
		s := b.session(0)
		token := mustGenerate(t, one, s)
		var waiting []<-chan memoResult
		for i, e := range []*Engine{one, two, two} {
			waiting = append(waiting, memoAsync(t.Context(), e, b.session(0), Request{Name: name}))
			b.inLine(queue, int64(i+1))
		}
		mustResolve(t, one, s, Resolution{Token: token, Value: "v"})
		for i, w := range waiting {
			if got := wait(t, w); got.err != nil || got.Token != "" || got.Value != "v" {
				t.Errorf("waiter %d: %+v", i, got)
			}
		}
		hit := &countingSession{Session: s}
		if m, err := two.Memo(t.Context(), hit, Request{Name: name}); err != nil || m.Value != "v" || m.Token != "" {
			t.Errorf("hit: %+v, %v", m, err)
		}
		if n := hit.n.Load(); n != 1 {
			t.Errorf("a hit took %d commands", n)
		}
		b.eventually("nothing is left but the value and the fence", func() bool {
			return b.do("EXISTS", lockKey, queue, "likes/lockwaitingset:kristoff") == int64(0)
		})
	})
}

func TestAnEmptyValueIsAValue(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		s := b.session(0)
		token := mustGenerate(t, e, s)
		waiting := memoAsync(t.Context(), b.engine(), b.session(0), Request{Name: name})
		b.inLine(queue, 1)
		mustResolve(t, e, s, Resolution{Token: token})
		if got := wait(t, waiting); got.err != nil || got.Token != "" || got.Value != "" {
			t.Errorf("%+v", got)
		}
	})
}

func TestAGeneratorThatGivesUpPromotesOneWaiter(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e, other := b.engine(), b.engine()
		s := b.session(0)
		token := mustGenerate(t, e, s)
		next := memoAsync(t.Context(), other, b.session(0), Request{Name: name})
		b.inLine(queue, 1)
		last := memoAsync(t.Context(), other, b.session(0), Request{Name: name})
		b.inLine(queue, 2)
		mustUnlock(t, e, s, name, token)
		promoted := wait(t, next)
		if promoted.err != nil || promoted.Token == "" {
			t.Fatalf("%+v", promoted)
		}
		if ok, err := e.Resolve(t.Context(), s, Resolution{Name: name, Token: token, Value: "old"}); ok || err != nil {
			t.Errorf("the one who gave up resolved: %v, %v", ok, err)
		}
		mustResolve(t, e, s, Resolution{Token: promoted.Token, Value: "new"})
		if got := wait(t, last); got.err != nil || got.Value != "new" {
			t.Errorf("%+v", got)
		}
	})
}

func TestAValueThatAStrangerStoresWakesOurWaiters(t *testing.T) {
	onBothWithin(t, atOnce, func(t *testing.T, b *backend) time.Duration {
		e := b.engine()
		mustGenerate(t, e, b.session(0))
		waiting := memoAsync(t.Context(), e, b.session(0), Request{Name: name})
		b.inLine(queue, 1)
		b.eventually("subscribed", func() bool {
			return b.do("PUBSUB", "NUMSUB", "likes/notif:kristoff").([]any)[1] == int64(1)
		})
		began := time.Now()
		b.do("SET", name, "stranger's")
		b.do("PUBLISH", "likes/notif:kristoff", "stranger's")
		got := wait(t, waiting)
		took := time.Since(began)
		if got.err != nil || got.Value != "stranger's" {
			t.Errorf("%+v after %v", got, took)
		}
		b.inLine(queue, 0)
		b.eventually("unsubscribed", func() bool {
			return b.do("PUBSUB", "NUMSUB", "likes/notif:kristoff").([]any)[1] == int64(0)
		})
		return took
	})
}

func TestAValueStoredBeforeTheSubscriptionStoodIsFound(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		mustGenerate(t, e, b.session(0))
		waiting := memoAsync(t.Context(), e, b.session(0), Request{Name: name})
		b.inLine(queue, 1)
		b.do("SET", name, "early") // and nobody hears the PUBLISH
		e.notif.added("likes/notif:kristoff", false)
		if got := wait(t, waiting); got.err != nil || got.Value != "early" {
			t.Errorf("%+v", got)
		}
	})
}

func TestAValueInAnotherDatabaseIsNotOurs(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e, other := b.engine(), b.engine()
		zero, five := b.session(0), b.session(5)
		inZero, inFive := mustGenerate(t, e, zero), mustGenerate(t, e, five)
		waiting := memoAsync(t.Context(), other, b.session(5), Request{Name: name})
		b.eventually("in line in 5", func() bool {
			n, err := five.Do(t.Context(), "LLEN", queue)
			return err == nil && n == int64(1)
		})
		mustResolve(t, e, zero, Resolution{Token: inZero, Value: "zero", TTL: 1})
		mustResolve(t, e, five, Resolution{Token: inFive, Value: "five"})
		if got := wait(t, waiting); got.err != nil || got.Value != "five" {
			t.Errorf("%+v", got)
		}
	})
}

func TestAValueThatIsGoneAtOnceStillReachesTheWaiters(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e, other := b.engine(), b.engine()
		s := b.session(0)
		token := mustGenerate(t, e, s)
		here := memoAsync(t.Context(), e, b.session(0), Request{Name: name})
		b.inLine(queue, 1)
		there := memoAsync(t.Context(), other, b.session(0), Request{Name: name})
		b.inLine(queue, 2)
		mustResolve(t, e, s, Resolution{Token: token, Value: "brief", TTL: 1})
		for _, w := range []<-chan memoResult{here, there} {
			if got := wait(t, w); got.err != nil || got.Value != "brief" {
				t.Errorf("%+v", got)
			}
		}
	})
}

func TestALargeValueIsNotPublishedAndStillReachesAll(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e, other := b.engine(), b.engine()
		s := b.session(0)
		listener := b.c.Subscribe(t.Context(), "likes/notif:kristoff")
		defer listener.Close()
		if _, err := listener.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		token := mustGenerate(t, e, s)
		waiting := memoAsync(t.Context(), other, b.session(0), Request{Name: name})
		b.inLine(queue, 1)
		value := strings.Repeat("v", 2<<20)
		mustResolve(t, e, s, Resolution{Token: token, Value: value})
		if got := wait(t, waiting); got.err != nil || got.Value != value {
			t.Errorf("%d bytes, %v", len(got.Value), got.err)
		}
		b.do("PUBLISH", "likes/notif:kristoff", "end")
		if m, err := listener.ReceiveMessage(t.Context()); err != nil || m.Payload != "end" {
			t.Errorf("the notif channel carried %d bytes, %v", len(m.Payload), err)
		}
	})
}

func TestResolveGoesToMemoCallersAndTheLockToTheLockCaller(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e, other := b.engine(), b.engine()
		s := b.session(0)
		token := mustGenerate(t, e, s)
		memo := memoAsync(t.Context(), other, b.session(0), Request{Name: name})
		b.inLine(queue, 1)
		lock := lockAsync(t.Context(), other, b.session(0), Request{Name: name})
		b.inLine(queue, 2)
		mustResolve(t, e, s, Resolution{Token: token, Value: "v"})
		if got := wait(t, memo); got.err != nil || got.Value != "v" {
			t.Errorf("memo: %+v", got)
		}
		got := wait(t, lock)
		if got.err != nil {
			t.Fatalf("lock: %+v", got)
		}
		mustUnlock(t, e, s, name, got.Token)
	})
}

func TestAMemoCallerWhoHangsUpOrDoesNotWaitLeavesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		mustGenerate(t, e, b.session(0))
		if _, err := e.Memo(t.Context(), b.session(0), Request{Name: name, NoWait: true}); !errors.Is(err, ErrNotGranted) {
			t.Errorf("NOWAIT: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		waiting := memoAsync(ctx, e, b.session(0), Request{Name: name})
		b.inLine(queue, 1)
		cancel()
		if got := wait(t, waiting); !errors.Is(got.err, context.Canceled) {
			t.Errorf("%+v", got)
		}
		if n := b.do("EXISTS", queue); n != int64(0) {
			t.Error("still in line")
		}
		if lines := e.waiters.memoLines(name); len(lines) != 0 {
			t.Errorf("still registered: %v", lines)
		}
	})
}

func TestAValueOfAnotherTypeIsRedissOwnError(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		b.do("RPUSH", name, "x")
		_, err := e.Memo(t.Context(), b.session(0), Request{Name: name})
		var refused RedisError
		if !errors.As(err, &refused) || !strings.HasPrefix(err.Error(), "WRONGTYPE ") {
			t.Errorf("got %v", err)
		}
	})
}

func TestOneGetServesAllWaitersOfAProxy(t *testing.T) {
	b := onRedis(t)
	e, other := b.engine(), b.engine()
	s := b.session(0)
	token := mustGenerate(t, e, s)
	var waiting []<-chan memoResult
	const callers = 50
	for range callers {
		waiting = append(waiting, memoAsync(t.Context(), other, b.session(0), Request{Name: name}))
	}
	b.inLine(queue, callers)
	b.do("CONFIG", "RESETSTAT")
	mustResolve(t, e, s, Resolution{Token: token, Value: "v"})
	for _, w := range waiting {
		if got := wait(t, w); got.err != nil || got.Value != "v" {
			t.Fatalf("%+v", got)
		}
	}
	stats := b.do("INFO", "commandstats").(string)
	_, stat, _ := strings.Cut(stats, "cmdstat_evalsha:calls=")
	calls, _, _ := strings.Cut(stat, ",")
	// The resolve and one look; the notif message of the same resolve may add a look.
	if calls != "2" && calls != "3" {
		t.Errorf("%s scripts for %d waiters", calls, callers)
	}
}

// It reaches the others as one reply; without, each in turn would ask once he becomes first.
func TestAValueThatOneWaiterFindsIsTheOthersToo(t *testing.T) {
	b := onRedis(t)
	e, waiting := b.engine(), []<-chan memoResult{}
	mustGenerate(t, e, b.session(0))
	const callers = 100
	for range callers {
		waiting = append(waiting, memoAsync(t.Context(), e, b.session(0), Request{Name: name}))
	}
	b.inLine(queue, callers)
	b.do("SET", name, "v") // by somebody who tells nobody
	e.waiters.memoCallers(line{0, name})[0].ring()
	shared, told := map[*Shared]bool{}, 0
	for _, w := range waiting {
		got := wait(t, w)
		if got.err != nil || got.Value != "v" {
			t.Fatalf("%+v", got)
		}
		if got.Shared != nil {
			shared[got.Shared] = true
			told++
		}
	}
	if told < callers/2 || len(shared) > callers/10 { // a few may have asked at the same time
		t.Errorf("%d were told, by %d replies", told, len(shared))
	}
}

func TestARejectionThatOneWaiterFindsMakesTheOthersAsk(t *testing.T) {
	e := onRedis(t).engine()
	one, other := e.waiters.add(line{0, name}, "one", true), e.waiters.add(line{0, name}, "other", true)
	locker := e.waiters.add(line{0, name}, "locker", false)
	e.news(one, answer{verdict: waits})
	e.news(locker, answer{verdict: rejected})
	one.rung = true
	e.news(one, answer{verdict: rejected}) // all are rung then
	if len(other.bell) != 0 {
		t.Error("a waiter is rung for no news")
	}
	one.rung = false
	e.news(one, answer{verdict: rejected})
	if len(other.bell) != 1 || len(locker.bell) != 0 {
		t.Error("not just the memo callers are rung")
	}
}

func TestManyMemoCallersTakeTurnsInAskingAgain(t *testing.T) {
	ws, now := newWaiters(100), time.Now()
	var callers []*waiter
	for range paceFrom {
		callers = append(callers, ws.add(line{0, name}, newToken(), true))
	}
	locker := ws.add(line{0, name}, newToken(), false)
	for _, w := range append(callers, locker) {
		if pause := ws.pace(w, now); pause != 0 {
			t.Fatalf("one of few is to wait for %v", pause)
		}
	}
	callers = append(callers, ws.add(line{0, name}, newToken(), true))
	if pause := ws.pace(callers[0], now); pause != 0 {
		t.Fatalf("the first of many is to wait for %v", pause)
	}
	n := time.Duration(len(callers))
	for _, w := range callers {
		if pause := ws.pace(w, now.Add(paceEvery-1)); pause < n*paceEvery/2 || pause > n*paceEvery*3/2 {
			t.Fatalf("one of many is to wait for %v", pause)
		}
	}
	if ws.pace(locker, now) != 0 || ws.pace(callers[1], now.Add(paceEvery)) != 0 {
		t.Error("who may ask is to wait")
	}
	for _, w := range callers {
		ws.remove(w)
	}
	if len(ws.paced) != 0 {
		t.Error("a name that nobody waits for is remembered")
	}
}

// The bell may come after the value was fetched, because another message told of it, and before all have it.
func TestWhoWasStruckFromTheLineDoesNotLeaveIt(t *testing.T) {
	e := &Engine{waiters: newWaiters(10), leaver: newLeaver(nil)} // nobody sends them
	for _, struck := range []bool{false, true} {
		w := e.waiters.add(line{0, name}, "t", true)
		w.serve(served{value: "v"})
		if struck {
			e.areStruck(w.line)
		}
		c := &call{line: w.line, req: Request{Token: "t"}}
		if a, done, err := e.rest(t.Context(), c, w, answer{verdict: waits}, nil); !done || err != nil || a.value != "v" {
			t.Fatalf("%+v, %v, %v", a, done, err)
		}
		e.leaver.mu.Lock()
		leaving := len(e.leaver.pending[party{line: w.line}])
		e.leaver.mu.Unlock()
		if struck != (leaving == 0) {
			t.Errorf("struck %v: %d leave", struck, leaving)
		}
		e.leaver.forget(w.line)
		e.waiters.remove(w)
	}
}

func TestWhoGotTheValueLeavesAfterTheBellCouldCome(t *testing.T) {
	l := newLeaver(nil)
	struck, later := line{0, "struck"}, line{0, "later"}
	future := time.Now().Add(time.Hour)
	dropped := l.add(struck, departure{served: true, since: future})
	l.add(later, departure{served: true, since: future, token: "served"})
	l.add(later, departure{token: "gone"})
	l.add(later, departure{served: true, since: time.Now().Add(-time.Hour), token: "late"})
	batches := l.take()
	if len(batches) != 1 || len(batches[0].who) != 2 || batches[0].who[0].token != "gone" || batches[0].who[1].token != "late" {
		t.Fatalf("%+v leave", batches)
	}
	if !l.lingering {
		t.Error("nothing wakes for the others")
	}
	l.forget(struck)
	wait(t, dropped)
	l.closed = true
	if batches = l.take(); len(batches) != 1 || len(batches[0].who) != 1 || batches[0].who[0].token != "served" {
		t.Errorf("%+v leave at the end", batches)
	}
}
