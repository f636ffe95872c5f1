package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// brief makes session locks run out soon when they are not renewed.
func brief(c *Config) { c.LockTTL = 500 * time.Millisecond }

func TestASessionLockEndsWithItsSession(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e, other := b.engine(), b.engine()
		s := b.session(3)
		mustLock(t, e, s, Request{Name: name, Session: true})
		mustLock(t, e, s, Request{Name: "lease"})
		next := lockAsync(t.Context(), other, b.session(3), Request{Name: name})
		looks := b.session(3)
		b.eventually("in line", func() bool { n, _ := looks.Do(t.Context(), "LLEN", queue); return n == int64(1) })
		began := time.Now()
		e.Ended(s)
		if got := wait(t, next); got.err != nil || got.at.Sub(began) > 5*time.Second { // the TTL is 30 s
			t.Errorf("granted after %v: %v", got.at.Sub(began), got.err)
		}
		if n, _ := looks.Do(t.Context(), "EXISTS", "lease/lock"); n != int64(1) {
			t.Error("the lease ended with the session as well")
		}
		if n := len(e.holds.sessions) + len(e.holds.held); n != 0 {
			t.Errorf("%d things are still known of the session", n)
		}
	})
}

func TestASessionLockIsRenewedWhileItsSessionLasts(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine(func(c *Config) { c.LockTTL = 2 * time.Second }) // on a busy machine less may pass at once
		s := b.session(0)
		held := mustLock(t, e, s, Request{Name: name, Session: true, Lease: 1})
		// Waited for over two TTLs.
		if _, err := e.Lock(t.Context(), b.session(0), Request{Name: name, Wait: 4500}); !errors.Is(err, ErrNotGranted) {
			t.Fatalf("another got it: %v", err)
		}
		mustUnlock(t, e, s, name, held.Token)
		if n := len(e.holds.held); n != 0 {
			t.Errorf("%d locks are still renewed", n)
		}
	})
}

func TestALostSessionLockIsTold(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine(brief)
		heard := b.c.Subscribe(t.Context(), "likes/locklost:kristoff")
		defer heard.Close()
		if _, err := heard.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := b.session(0)
		s.pushed = make(chan []string, 10)
		held := mustLock(t, e, s, Request{Name: name, Session: true})
		b.do("DEL", lockKey)
		if got, want := wait(t, s.pushed), []string{"ks.lost", name, held.Token}; !slices.Equal(got, want) {
			t.Errorf("pushed %q, want %q", got, want)
		}
		if m, err := heard.ReceiveMessage(t.Context()); err != nil || m.Payload != held.Token {
			t.Errorf("published %v, %v", m, err)
		}
		if ok, err := e.Unlock(t.Context(), s, name, held.Token); ok || err != nil {
			t.Errorf("unlocked what was lost: %v, %v", ok, err)
		}
	})
}

func TestASessionLockThatCannotBeRenewedIsLostBeforeItRunsOut(t *testing.T) {
	b := onMiniredis(t)
	e := b.engine(brief)
	heard := b.c.Subscribe(t.Context(), "likes/locklost:kristoff")
	defer heard.Close()
	if _, err := heard.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := b.session(0)
	s.pushed = make(chan []string, 10)
	began := time.Now()
	held := mustLock(t, e, s, Request{Name: name, Session: true})
	b.mini.SetError("LOADING Redis is loading the dataset in memory")
	wait(t, s.pushed)
	if after := time.Since(began); after < 250*time.Millisecond {
		t.Errorf("lost after %v, though the lease stood", after)
	}
	b.mini.SetError("")
	if m, err := heard.ReceiveMessage(t.Context()); err != nil || m.Payload != held.Token {
		t.Errorf("published %v, %v", m, err)
	}
}

func TestATokenEndsASessionLockFromAnywhereWithoutAlarm(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e, other := b.engine(), b.engine()
		s := b.session(0)
		for _, end := range []func(token string) (bool, error){
			func(token string) (bool, error) { return e.Unlock(t.Context(), b.session(0), name, token) },
			func(token string) (bool, error) { return other.Unlock(t.Context(), b.session(0), name, token) },
		} {
			held := mustLock(t, e, s, Request{Name: name, Session: true})
			if ok, err := end(held.Token); !ok || err != nil {
				t.Fatalf("%v, %v", ok, err)
			}
			b.eventually("it is not renewed any more", func() bool {
				e.holds.mu.Lock()
				defer e.holds.mu.Unlock()
				return len(e.holds.held) == 0 // its renewal would be due in ten seconds only
			})
		}
	})
}

func TestUnlockWithoutATokenUnlocksWhatTheConnectionWasGrantedLast(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		s, another, elsewhere := b.session(0), b.session(0), b.session(5)
		unlock := func(s Session, name string, want bool) {
			t.Helper()
			if ok, err := e.Unlock(t.Context(), s, name, ""); ok != want || err != nil {
				t.Errorf("%v, %v", ok, err)
			}
		}
		unlock(s, name, false)
		mustLock(t, e, s, Request{Name: name})
		mustLock(t, e, s, Request{Name: "other"})
		mustLock(t, e, elsewhere, Request{Name: name})
		unlock(another, name, false)
		unlock(s, name, true)
		unlock(s, name, false)
		unlock(s, "other", true)
		unlock(elsewhere, name, true)
		if m, err := e.Memo(t.Context(), s, Request{Name: name}); err != nil || m.Token == "" {
			t.Fatal(err)
		}
		unlock(s, name, true)
		mustLock(t, e, s, Request{Name: name})
		e.Ended(s)
		unlock(s, name, false)
	})
}

func TestLastGrantsThatRanOutAreForgotten(t *testing.T) {
	hs := newHolds(time.Minute)
	s := &scriptedSession{}
	for i := range 10 * lastMost {
		c := &call{line: line{0, fmt.Sprint(i)}, s: s, req: Request{Token: "t", Lease: 1}}
		hs.granted(c, time.Now().Add(-time.Second))
	}
	if n := len(hs.sessions[s].last); n > 2*lastMost {
		t.Errorf("%d are kept", n)
	}
	hs.granted(&call{line: line{0, "fresh"}, s: s, req: Request{Token: "t", Lease: 1000}}, time.Now())
	if token, ok := hs.lastToken(s, line{0, "fresh"}); !ok || token != "t" {
		t.Error("the fresh one is forgotten")
	}
}

func TestATokenThatIsSentAgainElsewhereHasTheSameGrant(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		one, two := b.engine(), b.engine()
		for _, session := range []bool{false, true} {
			s, again := b.session(0), b.session(0)
			first := mustLock(t, one, s, Request{Name: name, Token: "mine", Session: session})
			second := mustLock(t, two, again, Request{Name: name, Token: "mine", Session: session})
			if first != second {
				t.Errorf("%+v, then %+v", first, second)
			}
			one.Ended(s) // late cleaning up
			done := one.leaver.add(line{0, name}, departure{token: "mine", seq: 1})
			wait(t, done)
			if owner := b.do("GET", lockKey); owner != "mine" {
				t.Fatalf("the lock is %v's", owner)
			}
			mustUnlock(t, two, again, name, "mine")
		}
	})
}

func TestAWaiterThatIsSentAgainElsewhereKeepsItsPlace(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		one, two := b.engine(), b.engine()
		s := b.session(0)
		held := mustLock(t, one, s, Request{Name: name})
		older := lockAsync(t.Context(), one, b.session(0), Request{Name: name, Token: "mine"})
		b.inLine(queue, 1)
		behind := lockAsync(t.Context(), one, b.session(0), Request{Name: name})
		b.inLine(queue, 2)
		newer := lockAsync(t.Context(), two, b.session(0), Request{Name: name, Token: "mine"})
		if got := wait(t, older); !errors.Is(got.err, ErrNotGranted) {
			t.Fatalf("the older call: %+v", got)
		}
		mustUnlock(t, one, s, name, held.Token)
		if got := wait(t, newer); got.err != nil || got.Token != "mine" {
			t.Fatalf("the newer call: %+v", got)
		}
		mustUnlock(t, two, s, name, "mine")
		wait(t, behind)
	})
}

func TestAPlaceIsKeptForACallerWhoLoops(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		s, loops := b.session(0), b.session(0)
		held := mustLock(t, e, s, Request{Name: name})
		if _, err := e.Lock(t.Context(), loops, Request{Name: name, Token: "mine", Wait: 1}); !errors.Is(err, ErrNotGranted) {
			t.Fatal(err)
		}
		behind := lockAsync(t.Context(), e, b.session(0), Request{Name: name})
		b.inLine(queue, 2)
		again := lockAsync(t.Context(), e, loops, Request{Name: name, Token: "mine"})
		b.eventually("the place is taken again", func() bool {
			place, _ := b.do("HGET", "likes/lockwaitingset:kristoff", "mine").(string)
			return !strings.Contains(place, "~")
		})
		mustUnlock(t, e, s, name, held.Token)
		if got := wait(t, again); got.err != nil {
			t.Fatal(got.err)
		}
		mustUnlock(t, e, loops, name, "mine")
		wait(t, behind)
	})
}

func TestAPlaceOfACallerWhoNeverComesBackIsClearedAway(t *testing.T) {
	b := onRedis(t)
	e := b.engine()
	s := b.session(0)
	mustLock(t, e, b.session(0), Request{Name: name})
	for i := range 3 {
		if _, err := e.Lock(t.Context(), s, Request{Name: name, Token: fmt.Sprint(i), Wait: 1}); !errors.Is(err, ErrNotGranted) {
			t.Fatal(err)
		}
	}
	b.inLine(queue, 3)
	b.inLine(queue, 0) // though nobody asks
}

func TestWaitingForOneselfIsAnErrorAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		s := b.session(0)
		held := mustLock(t, e, s, Request{Name: name, Session: true})
		var deadlock *DeadlockError
		if _, err := e.Lock(t.Context(), s, Request{Name: name}); !errors.As(err, &deadlock) || deadlock.Name != name {
			t.Errorf("lock: %v", err)
		}
		if _, err := e.Memo(t.Context(), s, Request{Name: name}); !errors.As(err, &deadlock) {
			t.Errorf("memo: %v", err)
		}
		if n := b.do("LLEN", queue); n != int64(0) {
			t.Errorf("%v are left in line", n)
		}
		if again := mustLock(t, e, s, Request{Name: name, Session: true, Token: held.Token}); again != held {
			t.Errorf("asked again with its token: %+v, not %+v", again, held)
		}
		mustUnlock(t, e, s, name, "")
		mustLock(t, e, s, Request{Name: name})
	})
}

func TestAnExtendedLeaseEndsWhenItIsToldTo(t *testing.T) {
	onBothWithin(t, 200*time.Millisecond+atOnce, func(t *testing.T, b *backend) time.Duration {
		e := b.engine()
		s := b.session(0)
		held := mustLock(t, e, s, Request{Name: name, Lease: 3_600_000})
		next := lockAsync(t.Context(), b.engine(), b.session(0), Request{Name: name})
		b.inLine(queue, 1)
		began := time.Now()
		if ok, err := e.Extend(t.Context(), s, name, held.Token, 200); !ok || err != nil {
			t.Fatalf("%v, %v", ok, err)
		}
		got := wait(t, next)
		after := got.at.Sub(began)
		if got.err != nil || after < 190*time.Millisecond {
			t.Errorf("the next was granted after %v: %v", after, got.err)
		}
		if ok, err := e.Extend(t.Context(), s, name, held.Token, 200); ok || err != nil {
			t.Errorf("extended what ran out: %v, %v", ok, err)
		}
		return after
	})
}

func TestASessionLockIsNotExtended(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		s := b.session(0)
		held := mustLock(t, e, s, Request{Name: name, Session: true})
		if ok, err := b.engine().Extend(t.Context(), b.session(0), name, held.Token, 1); !ok || err != nil {
			t.Fatalf("%v, %v", ok, err)
		}
		if left := b.do("PTTL", lockKey).(int64); left < 20_000 {
			t.Errorf("it has %d ms left", left)
		}
		if again := mustLock(t, e, s, Request{Name: name, Token: held.Token, Lease: 60_000}); again != held {
			t.Errorf("asked again: %+v", again)
		}
		e.Ended(s) // it is a lease now
		wait(t, e.leaver.add(line{0, "other"}, departure{token: "x", seq: 1}))
		if owner := b.do("GET", lockKey); owner != held.Token {
			t.Errorf("the lease ended with the session; the lock is %v's", owner)
		}
	})
}

func TestAPromiseEndsWithItsSession(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		s := b.session(0)
		m, err := e.Memo(t.Context(), s, Request{Name: name, Session: true})
		if err != nil || m.Token == "" {
			t.Fatal(m, err)
		}
		next := memoAsync(t.Context(), b.engine(), b.session(0), Request{Name: name})
		b.inLine(queue, 1)
		e.Ended(s)
		if got := wait(t, next); got.err != nil || got.Token == "" {
			t.Errorf("not promoted: %+v", got)
		}
	})
}

func TestARejectionIsToldToAllWhoWait(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		engines := []*Engine{b.engine(), b.engine(), b.engine()}
		s := b.session(0)
		token := mustGenerate(t, engines[0], s)
		var waiting []<-chan memoResult
		for i := range 9 {
			waiting = append(waiting, memoAsync(t.Context(), engines[i%3], b.session(0), Request{Name: name}))
			b.inLine(queue, int64(i+1))
		}
		if ok, err := engines[0].Reject(t.Context(), s, Rejection{Name: name, Token: token, Message: "no luck"}); !ok || err != nil {
			t.Fatal(ok, err)
		}
		for i, w := range waiting {
			var rejected *RejectedError
			if got := wait(t, w); !errors.As(got.err, &rejected) || rejected.Message != "no luck" {
				t.Errorf("%d: %+v", i, got)
			}
		}
		if n := b.do("EXISTS", queue, lockKey); n != int64(0) {
			t.Error("something is left")
		}
		token = mustGenerate(t, engines[1], s) // a newcomer
		if ok, err := engines[1].Reject(t.Context(), s, Rejection{Name: name, Token: token, Message: "never", TTL: 60_000}); !ok || err != nil {
			t.Fatal(ok, err)
		}
		var rejected *RejectedError
		for _, nowait := range []bool{false, true} {
			if _, err := engines[2].Memo(t.Context(), s, Request{Name: name, NoWait: nowait}); !errors.As(err, &rejected) || rejected.Message != "never" {
				t.Errorf("nowait %v: %v", nowait, err)
			}
		}
	})
}

func TestARejectionFindsThoseWhoMissedItsBell(t *testing.T) {
	b := onRedis(t)
	var cut atomic.Bool // two's subscriptions can't come back
	one, two := b.engine(), b.engine(func(c *Config) {
		c.NewClient = func() *redis.Client {
			return b.client(func(o *redis.Options) {
				addr := o.Addr
				o.Dialer = func(context.Context, string, string) (net.Conn, error) {
					if cut.Load() {
						return nil, errors.New("cut")
					}
					return net.Dial("unix", addr)
				}
			})
		}
	})
	s := b.session(0)
	token := mustGenerate(t, one, s)
	waiting := memoAsync(t.Context(), two, b.session(0), Request{Name: name})
	b.inLine(queue, 1)
	cut.Store(true)
	b.do("CLIENT", "KILL", "TYPE", "pubsub")
	if ok, err := one.Reject(t.Context(), s, Rejection{Name: name, Token: token, Message: "no"}); !ok || err != nil {
		t.Fatal(ok, err)
	}
	var rejected *RejectedError
	if got := wait(t, waiting); !errors.As(got.err, &rejected) {
		t.Errorf("%+v", got)
	}
}

func TestProxiesThatSplitNamesDifferentlyRefuse(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		if err := e.agreement.check(); err != nil {
			t.Fatal(err)
		}
		other := b.engine(func(c *Config) { c.TagSplit = "last" })
		var unavailable *UnavailableError
		if _, err := other.Lock(t.Context(), b.session(0), Request{Name: name}); !errors.As(err, &unavailable) ||
			!strings.Contains(unavailable.Reason, "ks-tag-split is 'last' here and 'first'") {
			t.Errorf("the second: %v", err)
		}
		held := mustLock(t, e, b.session(0), Request{Name: name})
		mustUnlock(t, e, b.session(0), name, held.Token)
		if ttl := b.do("PTTL", agreementKey).(int64); ttl <= 0 || ttl > 60_000 {
			t.Errorf("the agreement has a TTL of %d ms", ttl)
		}
		b.do("FLUSHALL")
		b.eventually("use makes the agreement again", func() bool { // not the look that is under way since the start
			e.agreement.found("") // as a look would say
			held := mustLock(t, e, b.session(0), Request{Name: name})
			mustUnlock(t, e, b.session(0), name, held.Token)
			return b.do("GET", agreementKey) == "first"
		})
	})
}

func TestCallsGoOnWhereTheAgreementCantBeRead(t *testing.T) {
	b := onRedis(t)
	b.do("ACL", "SETUSER", "proxy", "reset", "on", ">pw", "+@all", "~likes*", "&*")
	t.Cleanup(func() { b.do("ACL", "DELUSER", "proxy") })
	e := b.engine(func(c *Config) {
		c.NewClient = func() *redis.Client {
			return b.client(func(o *redis.Options) { o.Username, o.Password = "proxy", "pw" })
		}
	})
	mustLock(t, e, b.session(0), Request{Name: name})
}

func onlyHold(t *testing.T, e *Engine) *hold {
	t.Helper()
	e.holds.mu.Lock()
	defer e.holds.mu.Unlock()
	for _, h := range e.holds.held {
		return h
	}
	t.Fatal("nothing is held")
	return nil
}

func TestARenewalUnderWayDoesNotTakeWhatWasUnlockedForLost(t *testing.T) {
	b := onMiniredis(t)
	e := b.engine()
	s := b.session(0)
	s.pushed = make(chan []string, 10)
	held := mustLock(t, e, s, Request{Name: name, Session: true})
	h := onlyHold(t, e)
	mustUnlock(t, e, s, name, held.Token)
	(&watchdog{e: e}).settle(h, renewLost, time.Now()) // the reply of a renewal that was under way
	if len(s.pushed) > 0 {
		t.Errorf("told %q", <-s.pushed)
	}
}

func TestARenewalNeitherShortensNorBringsBack(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		s := b.session(0)
		mustLock(t, e, s, Request{Name: name, Session: true})
		h := onlyHold(t, e)
		d := &watchdog{e: e}
		b.do("PEXPIRE", lockKey, 100_000)
		d.renew(t.Context(), []*hold{h})
		if left := b.do("PTTL", lockKey).(int64); left < 90_000 {
			t.Errorf("shortened to %d ms", left)
		}
		b.do("PEXPIRE", lockKey, 10_000)
		d.renew(t.Context(), []*hold{h})
		if left := b.do("PTTL", lockKey).(int64); left < 20_000 {
			t.Errorf("not renewed: %d ms", left)
		}
		b.do("DEL", lockKey)
		d.renew(t.Context(), []*hold{h})
		if b.do("EXISTS", lockKey) != int64(0) {
			t.Error("brought back")
		}
	})
}

func TestTwoLiveCallsWithOneTokenDoNotTakeThePlaceFromEachOther(t *testing.T) {
	b := onRedis(t)
	one, two := b.engine(), b.engine()
	s := b.session(0)
	held := mustLock(t, one, s, Request{Name: name})
	asks := &countingSession{Session: b.session(0)}
	older := lockAsync(t.Context(), one, b.session(0), Request{Name: name, Token: "mine"})
	b.inLine(queue, 1)
	newer := lockAsync(t.Context(), two, asks, Request{Name: name, Token: "mine"})
	if got := wait(t, older); !errors.Is(got.err, ErrNotGranted) {
		t.Fatalf("the older call: %+v", got)
	}
	b.eventually("three rechecks", func() bool { return asks.n.Load() > 3 })
	mustUnlock(t, one, s, name, held.Token)
	if got := wait(t, newer); got.err != nil {
		t.Errorf("the newer call: %+v", got)
	}
}

// Redis may be busy or loading when a lock is to be renewed: that says nothing of the lock.
func TestARenewalThatRedisPutsOffIsTriedAgain(t *testing.T) {
	b := onMiniredis(t)
	e := b.engine(func(c *Config) { c.LockTTL = time.Second })
	s := b.session(0)
	s.pushed = make(chan []string, 10)
	mustLock(t, e, s, Request{Name: name, Session: true})
	b.eventually("the first renewal", func() bool { return b.do("PTTL", lockKey).(int64) < 700 })
	b.mini.SetError("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.")
	b.eventually("a refused renewal", func() bool {
		e.holds.mu.Lock()
		defer e.holds.mu.Unlock()
		for _, h := range e.holds.held {
			return time.Since(h.trusted) > 400*time.Millisecond
		}
		return true
	})
	b.mini.SetError("")
	b.eventually("the next renewal", func() bool { return b.do("PTTL", lockKey).(int64) > 900 })
	if len(s.pushed) > 0 {
		t.Errorf("told %q", <-s.pushed)
	}
}

func TestAnAnswerThatHasNoPromiseLeavesTheSessionLockAlone(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		s := b.session(0)
		held := mustLock(t, e, s, Request{Name: name, Session: true})
		if ok, err := e.Resolve(t.Context(), s, Resolution{Name: name, Token: held.Token, Value: "v"}); ok || err != nil {
			t.Fatal(ok, err)
		}
		if ok, err := e.Reject(t.Context(), s, Rejection{Name: name, Token: held.Token}); ok || err != nil {
			t.Fatal(ok, err)
		}
		onlyHold(t, e)
		mustUnlock(t, e, s, name, "")
	})
}

func TestALossIsToldThoughAnUnlockNoticedItFirst(t *testing.T) {
	b := onMiniredis(t)
	e := b.engine(brief)
	s := b.session(0)
	s.pushed = make(chan []string, 10)
	held := mustLock(t, e, s, Request{Name: name, Session: true})
	b.do("DEL", lockKey)
	if ok, err := e.Unlock(t.Context(), b.session(0), name, held.Token); ok || err != nil {
		t.Fatal(ok, err)
	}
	if got := wait(t, s.pushed); got[2] != held.Token {
		t.Errorf("pushed %q", got)
	}
}

// The later of two calls with one token may be booked first.
func TestALockIsRenewedThoughItsGrantWasBookedBeforeTheEarlierOne(t *testing.T) {
	b := onRedis(t)
	e := b.engine(brief)
	s, again := b.session(0), b.session(0)
	held := mustLock(t, e, s, Request{Name: name, Token: "mine", Session: true})
	if second := mustLock(t, e, again, Request{Name: name, Token: "mine", Session: true}); second != held {
		t.Fatalf("%+v, then %+v", held, second)
	}
	e.holds.granted(&call{line: line{0, name}, s: s, seq: 1, req: Request{Token: "mine", Session: true}}, time.Now())
	if _, err := e.Lock(t.Context(), b.session(0), Request{Name: name, Wait: 1000}); !errors.Is(err, ErrNotGranted) {
		t.Errorf("another got it: %v", err)
	}
	e.Ended(s)
	mustUnlock(t, e, again, name, "")
}

func TestAnUnlockThatFailsAfterTheOwnersEndReleasesAllTheSame(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		s := b.session(0)
		held := mustLock(t, e, s, Request{Name: name, Session: true})
		undo := e.ending(b.session(0), line{0, name}, held.Token) // an unlock is under way
		e.Ended(s)
		mustLock(t, e, s, Request{Name: "another"}) // as after a RESET
		undo()
		b.eventually("it is released", func() bool { return b.do("EXISTS", lockKey) == int64(0) })
		if n := len(e.holds.held); n != 0 {
			t.Errorf("%d holds are back", n)
		}
	})
}

// While an answer of its generator is under way, a hold is in nobody's books, so who is told of its end finds nothing.
func TestAPromiseThatIsRevokedWhileItsAnswerIsUnderWayIsLostAtOnce(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		t.Run(fmt.Sprintf("elsewhere %t", elsewhere), func(t *testing.T) {
			onBoth(t, func(t *testing.T, b *backend) {
				e := b.engine() // it renews every 10 s
				revoking := e
				if elsewhere {
					revoking = b.engine()
				}
				s := b.session(0)
				s.pushed = make(chan []string, 10)
				m, err := e.Memo(t.Context(), s, Request{Name: name, Session: true})
				if err != nil {
					t.Fatal(err)
				}
				undo := e.ending(s, line{0, name}, m.Token)
				if ok, err := revoking.Forget(t.Context(), b.session(0), name); !ok || err != nil {
					t.Fatalf("forget: %v, %v", ok, err)
				}
				b.do("SET", lockKey, "another's", "PX", 60000)
				if elsewhere {
					e.holds.doubt(1) // in case its bell has not come yet, so that it has now
				}
				undo()
				if _, err := e.Memo(t.Context(), s, Request{Name: name, Wait: 1}); !errors.Is(err, ErrNotGranted) {
					t.Errorf("asked for it again: %v", err)
				}
				if got := wait(t, s.pushed); got[2] != m.Token {
					t.Errorf("pushed %q", got)
				}
			})
		})
	}
}

// The reply of a grant may come after the news of its end.
func TestAPromiseThatIsRevokedBeforeItsGrantIsBookedIsLostAtOnce(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		t.Run(fmt.Sprintf("elsewhere %t", elsewhere), func(t *testing.T) {
			onBoth(t, func(t *testing.T, b *backend) {
				e := b.engine() // it renews every 10 s
				s := b.session(0)
				s.pushed = make(chan []string, 10)
				m, err := e.Memo(t.Context(), s, Request{Name: name, Session: true})
				if err != nil {
					t.Fatal(err)
				}
				h := onlyHold(t, e)
				e.holds.mu.Lock()
				e.holds.drop(h) // the reply is still on its way
				e.holds.mu.Unlock()
				revoking := e
				if elsewhere {
					revoking = b.engine()
				}
				if ok, err := revoking.Forget(t.Context(), b.session(0), name); !ok || err != nil {
					t.Fatalf("forget: %v, %v", ok, err)
				}
				if elsewhere {
					e.holds.doubt(h.seq) // in case its bell has not come yet, so that it has now
				}
				e.holds.granted(&call{line: h.line, s: s, seq: h.seq, req: Request{Token: m.Token, Session: true}}, time.Now())
				if got := wait(t, s.pushed); got[2] != m.Token {
					t.Errorf("pushed %q", got)
				}
			})
		})
	}
}

// A renewal that was asked for before the doubt arose says nothing about it.
func TestADoubtOutlivesARenewalThatIsUnderWay(t *testing.T) {
	b := onMiniredis(t)
	e := b.engine()
	s := b.session(0)
	s.pushed = make(chan []string, 10)
	held := mustLock(t, e, s, Request{Name: name, Session: true})
	h := onlyHold(t, e)
	sent := time.Now()
	b.do("DEL", lockKey)
	e.holds.mu.Lock()
	h.doubted = time.Now()
	h.next = h.doubted
	e.holds.mu.Unlock()
	(&watchdog{e: e}).settle(h, renewed, sent)
	if e.holds.mu.Lock(); h.doubted.IsZero() || time.Until(h.next) > time.Second {
		t.Error("it is taken to stand")
	}
	e.holds.doubts(h)
	e.holds.mu.Unlock()
	if got := wait(t, s.pushed); got[2] != held.Token {
		t.Errorf("pushed %q", got)
	}
}

func TestWhatFollowsAResetFindsTheLocksReleased(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		s := b.session(0)
		for range 20 {
			mustLock(t, e, s, Request{Name: name, Session: true})
			e.Ended(s) // RESET
			if _, err := e.Lock(t.Context(), s, Request{Name: name, NoWait: true}); err != nil {
				t.Fatal(err)
			}
			mustUnlock(t, e, s, name, "")
		}
		b.eventually("nothing is known of it", func() bool {
			e.holds.mu.Lock()
			defer e.holds.mu.Unlock()
			return len(e.holds.leaving) == 0
		})
	})
}

func TestASessionLockThatBecameALeaseIsWaitedFor(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		s := b.session(0)
		mustLock(t, e, s, Request{Name: name, Token: "mine", Session: true})
		mustLock(t, e, s, Request{Name: name, Token: "mine", Lease: 200})
		mustLock(t, e, s, Request{Name: name})
	})
}

func TestTheTokenOfASessionLockIsNotForgotten(t *testing.T) {
	hs := newHolds(time.Millisecond)
	s := &scriptedSession{}
	long := time.Now().Add(-time.Hour)
	hs.granted(&call{line: line{0, "held"}, s: s, seq: 1, req: Request{Token: "t", Session: true, Lease: 1}}, long)
	hs.granted(&call{line: line{0, "long"}, s: s, seq: 2, req: Request{Token: "u", Lease: 1 << 53}}, long)
	for i := range 3 * lastMost {
		hs.granted(&call{line: line{0, fmt.Sprint(i)}, s: s, req: Request{Token: "x", Lease: 1}}, long)
	}
	for name, token := range map[string]string{"held": "t", "long": "u"} {
		if got, _ := hs.lastToken(s, line{0, name}); got != token {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestManyLossesAreToldAtOnce(t *testing.T) {
	b := onMiniredis(t)
	e := b.engine(brief)
	s := b.session(0)
	const many = 50
	s.pushed = make(chan []string, many)
	for i := range many {
		mustLock(t, e, s, Request{Name: fmt.Sprint("n", i), Session: true})
	}
	b.mini.SetError("LOADING Redis is loading the dataset in memory")
	began := time.Now()
	for range many {
		wait(t, s.pushed)
	}
	if after := time.Since(began); after > 2*time.Second {
		t.Errorf("the last was told after %v, with a TTL of 300 ms", after)
	}
	b.mini.SetError("")
}

// pipelines counts those that a client sends, and the commands in them.
type pipelines struct{ sent, commands atomic.Int64 }

func (p *pipelines) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (p *pipelines) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (p *pipelines) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		p.sent.Add(1)
		p.commands.Add(int64(len(cmds)))
		return next(ctx, cmds)
	}
}

func TestAThousandSessionLocksAreRenewedInOnePipeline(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		var p pipelines
		e := b.engine(rarely, func(c *Config) {
			plain := c.NewClient
			c.NewClient = func() *redis.Client {
				client := plain()
				client.AddHook(&p)
				return client
			}
		})
		s := b.session(0)
		for i := range 1000 {
			mustLock(t, e, s, Request{Name: fmt.Sprint("many:", i), Session: true})
		}
		for i := range 1000 {
			b.do("PEXPIRE", fmt.Sprint("many/lock:", i), 20_000)
		}
		e.holds.mu.Lock()
		for _, h := range e.holds.held {
			h.next = time.Now()
		}
		e.holds.mu.Unlock()
		sent, commands := p.sent.Load(), p.commands.Load()
		(&watchdog{e: e}).round(t.Context())
		sent, commands = p.sent.Load()-sent, p.commands.Load()-commands
		if sent != 1 || commands != 1000 {
			t.Errorf("%d pipelines with %d commands", sent, commands)
		}
		for i := range 1000 {
			if left := b.do("PTTL", fmt.Sprint("many/lock:", i)).(int64); left <= 20_000 {
				t.Fatalf("lock %d was not renewed: %d ms", i, left)
			}
		}
	})
}
