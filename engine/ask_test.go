package engine

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

// scriptedSession answers asks one after the other, and notes when they came.
type scriptedSession struct {
	answers []any
	during  func(n int) // called while the nth ask is under way
	asked   []time.Duration
	began   time.Time
}

func (s *scriptedSession) Do(context.Context, ...any) (any, error) {
	n := len(s.asked)
	s.asked = append(s.asked, time.Since(s.began))
	if s.during != nil {
		s.during(n + 1)
	}
	if n >= len(s.answers) {
		return nil, errors.New("no more answers")
	}
	return s.answers[n], nil
}

func (s *scriptedSession) Exchange(context.Context, ...[]any) ([][]byte, error) {
	return nil, errors.New("no exchange is scripted")
}
func (s *scriptedSession) Watching() bool                     { return false }
func (s *scriptedSession) DB() int                            { return 0 }
func (s *scriptedSession) Peer(context.Context) (Peer, error) { return Peer{}, nil }
func (s *scriptedSession) Push(...string) bool                { return false }

func waitAnswer(left int64, first, stranger bool, length int) any {
	return []any{"wait", left, int64(asFlag(first)), int64(asFlag(stranger)), int64(length), "0", []any{}}
}

var grantedAnswer = []any{"granted", "7", []any{}}

// offline returns an engine that talks to nobody: for calls whose session is scripted.
func offline(t *testing.T) *Engine {
	t.Helper()
	e := New(Config{NewClient: func() *redis.Client {
		return redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	}})
	e.ready.up()
	e.agreement.found("first")
	t.Cleanup(func() { _ = e.Close(context.Background()) })
	return e
}

func TestWhenAWaiterAsksAgain(t *testing.T) {
	const ms = time.Millisecond
	for _, row := range []struct {
		name        string
		answer      any
		least, most time.Duration
	}{
		{"first in line: at the lease's end", waitAnswer(300, true, false, 1), 305 * ms, 325 * ms},
		{"first in line, long lease: every second", waitAnswer(60_000, true, false, 1), 800 * ms, 1200 * ms},
		{"second: at the lease's end too, in case the first is not there", waitAnswer(300, false, false, 2), 305 * ms, 325 * ms},
		{"one of many: spread over as many ms", waitAnswer(300, false, false, 500), 305 * ms, 805 * ms},
		{"further back: every five seconds", waitAnswer(60_000, false, false, 2), 4 * time.Second, 6 * time.Second},
		{"far back: every twenty, below the line's TTL", waitAnswer(60_000, false, false, 1001), 16 * time.Second, 24 * time.Second},
		{"behind a lock that never ends", waitAnswer(-1, false, false, 2), 4 * time.Second, 6 * time.Second},
		{"behind a stranger: every second", waitAnswer(60_000, false, true, 2), 800 * ms, 1200 * ms},
		{"behind a stranger with a short lease: three times in it", waitAnswer(300, false, true, 2), 80 * ms, 120 * ms},
		{"behind a stranger that never ends", waitAnswer(-1, false, true, 2), 800 * ms, 1200 * ms},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := offline(t)
				s := &scriptedSession{answers: []any{row.answer, grantedAnswer}, began: time.Now()}
				if g, err := e.Lock(t.Context(), s, Request{Name: "n"}); err != nil || g.Fence != 7 {
					t.Fatalf("%+v, %v", g, err)
				}
				if again := s.asked[1]; again < row.least || again > row.most {
					t.Errorf("asked again after %v, not within %v to %v", again, row.least, row.most)
				}
			})
		})
	}
}

func TestABellThatRingsWhileTheAskIsUnderWayIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := offline(t)
		s := &scriptedSession{answers: []any{waitAnswer(60_000, false, false, 2), grantedAnswer}, began: time.Now()}
		s.during = func(n int) {
			if n == 1 {
				e.waiters.ring(1)
				e.waiters.ring(1) // two bells are one
			}
		}
		if _, err := e.Lock(t.Context(), s, Request{Name: "n"}); err != nil {
			t.Fatal(err)
		}
		if s.asked[1] != 0 {
			t.Errorf("asked again after %v", s.asked[1])
		}
	})
}

func TestACallThatWasTakenOverAnswersThatItGotNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := offline(t)
		s := &scriptedSession{answers: []any{waitAnswer(60_000, true, false, 1), []any{"gone", []any{}}}, began: time.Now()}
		if _, err := e.Lock(t.Context(), s, Request{Name: "n", Token: "t"}); !errors.Is(err, ErrNotGranted) {
			t.Errorf("got %v", err)
		}
		if len(e.leaver.pending) != 0 {
			t.Error("it leaves a place that is another call's")
		}
	})
}

func TestAFenceIsNeverAskedBelowTheHighestSeen(t *testing.T) {
	e := offline(t)
	e.sawFence(9)
	e.sawFence(3)
	if n := e.fence.Load(); n != 9 {
		t.Errorf("highest seen is %d", n)
	}
}

func TestAWatchedClaimIsLookedAtOnceAfterTheLastHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		looks := make(chan time.Duration, 10)
		c := newLookout(claimsMost, func(line) { looks <- time.Since(began) })
		for range 5 {
			c.watch(line{0, "n"}, claimWindow)
			time.Sleep(time.Second)
		}
		time.Sleep(10 * time.Second)
		if len(looks) != 1 {
			t.Fatalf("looked %d times", len(looks))
		}
		if at := <-looks; at < 4*time.Second+claimWindow || at > 4*time.Second+claimWindow {
			t.Errorf("looked after %v", at)
		}
	})
}

func TestAWatchedLineIsLookedAtSoonerIfThatIsNamedLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		looks := make(chan time.Duration, 10)
		o := newLookout(1, func(line) { looks <- time.Since(began) })
		o.watch(line{0, "n"}, time.Hour)
		o.watch(line{0, "n"}, time.Second)
		o.watch(line{0, "one too many"}, time.Second)
		time.Sleep(2 * time.Hour)
		if len(looks) != 1 || <-looks != time.Second {
			t.Errorf("looked %d more times", len(looks))
		}
	})
}

func TestBellsAreParsedWhateverTheyCarry(t *testing.T) {
	for payload, want := range map[string]bell{
		"r 0 17 3 tokname":       {line: line{0, "name"}, kind: "r", seq: 17, token: "tok"},
		"d 2 17 3 tokname":       {line: line{2, "name"}, kind: "d", seq: 17, token: "tok"},
		"r 15 1 5 a b cn m":      {line: line{15, "n m"}, kind: "r", seq: 1, token: "a b c"},
		"v 0 4 0 name":           {line: line{0, "name"}, kind: "v"},
		"v 0 4 9 namea\r\nvalue": {line: line{0, "name"}, kind: "v", hasValue: true, fence: 9, value: "a\r\nvalue"},
		"e 0 4 12 nameno luck":   {line: line{0, "name"}, kind: "e", fence: 12, value: "no luck"},
	} {
		if got, err := parseBell(payload); err != nil || got != want {
			t.Errorf("%q: %+v, %v", payload, got, err)
		}
	}
	for _, payload := range []string{"", "r", "r 0 1 9 tok", "r x 1 1 tn", "r 0 -1 1 tn", "v 0 9 0 n", "x 0 1 1 tn", "r 0 1 -1 tn", "e 0 1 x nm", "d 0 1 9 tok"} {
		if b, err := parseBell(payload); err == nil {
			t.Errorf("%q is taken for %+v", payload, b)
		}
	}
}

func TestNamesAndTheirKeys(t *testing.T) {
	for _, row := range []struct{ name, split, lock, notif string }{
		{"likes:kristoff", "first", "likes/lock:kristoff", "likes/notif:kristoff"},
		{"nightly", "first", "nightly/lock", "nightly/notif"},
		{"a:b:c", "first", "a/lock:b:c", "a/notif:b:c"},
		{"a:b:c", "last", "a:b/lock:c", "a:b/notif:c"},
		{":x", "first", "/lock:x", "/notif:x"},
		{"locks/lock/x", "first", "locks/lock/x/lock", "locks/lock/x/notif"},
	} {
		k, err := keysOf(row.name, row.split)
		if err != nil || k.lock != row.lock || k.notif != row.notif || k.value != row.name {
			t.Errorf("%s, %s: %+v, %v", row.name, row.split, k, err)
		}
	}
}
