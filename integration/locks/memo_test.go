package locks

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// wantValue checks that the reply of KS.MEMO is this value.
func wantValue(t testing.TB, reply any, value string) {
	t.Helper()
	if pair, ok := reply.([]any); !ok || !slices.Equal(pair, []any{"value", value}) {
		t.Fatalf("KS.MEMO answers %#v, want the value %q", reply, value)
	}
}

func oneGenerates(t *testing.T, s *stage) {
	for round, value := range []string{"computed once", "", strings.Repeat("large", 250_000)} {
		name := fmt.Sprintf("one:%d", round)
		callers := 50
		if len(value) > 1<<20 { // it does not go out on the channel
			callers = 10
		}
		var all []*client
		for i := range callers {
			c := s.client(t, i%2)
			c.ask("KS.MEMO", name)
			all = append(all, c)
		}
		s.awaitLine(t, name, callers-1)
		outcomes := collect(all)
		first := <-outcomes
		g, err := asGrant(first.reply)
		if first.err != nil || err != nil {
			t.Fatalf("the generator: %v, %v", first.err, err)
		}
		if n := len(outcomes); n > 0 {
			t.Fatalf("%d more were answered while one generates", n)
		}
		began := time.Now()
		first.want(int64(1), "KS.RESOLVE", name, g.token, value, "PX", "30000")
		for range callers - 1 {
			o := <-outcomes
			if o.err != nil {
				t.Fatal(o.err)
			}
			wantValue(t, o.reply, value)
		}
		took(t, fmt.Sprintf("%d waiters had a value of %d bytes", callers-1, len(value)), began, 0, 5*time.Second)
		wantValue(t, s.client(t, 2).do("KS.MEMO", name, "NOWAIT"), value)
		first.want(int64(0), "KS.RESOLVE", name, g.token, "too late")
		s.awaitLine(t, name, 0)
		if got := first.do("GET", name); got != value {
			t.Fatalf("GET answers %.100q", got)
		}
		first.want(int64(1), "DEL", name)
		for _, c := range all {
			c.Close()
		}
	}
}

func generatorGivesUp(t *testing.T, s *stage) {
	ways := []struct {
		name    string
		options []string
		giveUp  func(c *client, name string, g grant) (since time.Time)
	}{
		{"its lease runs out", []string{"PX", "300"}, func(*client, string, grant) time.Time {
			return time.Now().Add(300 * time.Millisecond)
		}},
		{"its SESSION connection is closed", []string{"SESSION"}, func(c *client, _ string, _ grant) time.Time {
			c.Close()
			return time.Now()
		}},
		{"KS.UNLOCK", nil, func(c *client, name string, g grant) time.Time {
			c.unlock(name, g)
			return time.Now()
		}},
	}
	for i, way := range ways {
		name := fmt.Sprintf("givesup:%d", i)
		generator := s.client(t, 0)
		g := generator.generate(name, way.options...)
		waiters := []*waiter{s.joinMemo(t, 1, name), s.joinMemo(t, 0, name), s.joinMemo(t, 2, name)}
		since := way.giveUp(generator, name, g)
		if next := waiters[0].granted(); next.token == g.token {
			t.Fatalf("%s: the promise is the old one", way.name)
		}
		took(t, "after "+way.name+" the next was promoted", since, 100*time.Millisecond, time.Second)
		for _, w := range waiters[1:] {
			w.silent("one generates")
		}
		s.client(t, 2).want(int64(0), "KS.RESOLVE", name, g.token, "too late")
		s.client(t, 2).want(int64(1), "KS.RESOLVE", name, waiters[0].token, "the second's", "PX", "30000")
		for _, w := range waiters[1:] {
			wantValue(t, w.next(), "the second's")
		}
		s.client(t, 0).want(int64(1), "DEL", name)
	}
}

func rejected(t *testing.T, s *stage) {
	const name = "rejected:1"
	generator := s.client(t, 0)
	g := generator.generate(name)
	var waiters []*waiter
	for i := range 9 {
		waiters = append(waiters, s.joinMemo(t, i%3, name))
	}
	generator.want(int64(0), "KS.REJECT", name, "somebody else's", "no")
	began := time.Now()
	generator.want(int64(1), "KS.REJECT", name, g.token, "no such\nthing")
	for _, w := range waiters {
		if got := w.next(); got != refusal("MEMOERR no such thing") {
			t.Fatalf("a waiter was answered %#v", got)
		}
	}
	took(t, "nine waiters on three proxies were told of a rejection", began, 0, 2*time.Second)
	generator.want(int64(0), "KS.REJECT", name, g.token, "again")
	generator.want(int64(0), "KS.RESOLVE", name, g.token, "v")
	s.awaitLine(t, name, 0)

	// Without a TTL the next new caller generates, on whatever proxy, also one whose waiter has been told.
	next := waiters[1].generate(name)
	late := s.joinMemo(t, 2, name)
	waiters[1].want(int64(1), "KS.RESOLVE", name, next.token, "v", "PX", "30000")
	wantValue(t, late.next(), "v")
	waiters[1].want(int64(1), "DEL", name)

	last := generator.generate(name)
	generator.wantRefusal("ERR", "KS.REJECT", name, last.token, strings.Repeat("m", 4<<10+1))
	generator.wantRefusal("ERR syntax error", "KS.REJECT", name, last.token, "m", "NX")
	generator.wantRefusal("ERR wrong number of arguments for 'ks.reject' command", "KS.REJECT", name, last.token)
	generator.want(int64(1), "KS.REJECT", name, last.token, strings.Repeat("m", 4<<10), "PX", "1")
	eventually(t, "the records of the rejections are gone", func() bool {
		return s.must(t, "EXISTS", keyOf(name, "error")) == int64(0)
	})
}

func rejectionRemembered(t *testing.T, s *stage) {
	const name = "rejected:2"
	generator := s.client(t, 0)
	g := generator.generate(name)
	waiters := []*waiter{s.joinMemo(t, 0, name), s.joinMemo(t, 1, name), s.joinMemo(t, 2, name)}
	until := time.Now().Add(1500 * time.Millisecond) // at the earliest
	generator.want(int64(1), "KS.REJECT", name, g.token, "not today", "PX", "1500")
	for _, w := range waiters {
		if got := w.next(); got != refusal("MEMOERR not today") {
			t.Fatalf("a waiter was answered %#v", got)
		}
	}
	for proxy := range s.proxies {
		got := s.client(t, proxy).do("KS.MEMO", name)
		if got != refusal("MEMOERR not today") && time.Now().Before(until) {
			t.Fatalf("a new caller was answered %#v", got)
		}
	}
	c := s.client(t, 1)
	var reply any
	eventually(t, "the error is forgotten and somebody generates", func() bool {
		reply = c.do("KS.MEMO", name)
		_, told := reply.(refusal)
		return !told
	})
	if early := time.Until(until); early > 5*time.Millisecond {
		t.Errorf("the error was forgotten %v too early", early)
	}
	next, err := asGrant(reply)
	if err != nil {
		t.Fatal(err)
	}
	c.unlock(name, next)
}

func strangerStores(t *testing.T, s *stage) {
	const name = "stranger:1"
	generator := s.client(t, 0)
	g := generator.generate(name)
	waiters := []*waiter{s.joinMemo(t, 0, name), s.joinMemo(t, 1, name), s.joinMemo(t, 2, name)}
	channel := keyOf(name, "notif")
	eventually(t, "all proxies listen to "+channel, func() bool {
		return s.must(t, "PUBSUB", "NUMSUB", channel).([]any)[1] == int64(len(s.proxies))
	})
	began := time.Now()
	s.must(t, "SET", name, "a stranger's", "PX", "30000")
	s.must(t, "PUBLISH", channel, "a stranger's")
	for _, w := range waiters {
		wantValue(t, w.next(), "a stranger's")
	}
	took(t, "waiters had the value that a stranger stored", began, 0, time.Second)
	wantValue(t, generator.do("KS.MEMO", name), "a stranger's")
	generator.unlock(name, g)
	s.awaitLine(t, name, 0)
	eventually(t, "nobody listens to "+channel, func() bool {
		return s.must(t, "PUBSUB", "NUMSUB", channel).([]any)[1] == int64(0)
	})
	s.must(t, "DEL", name)
}

func memoCallersHangUp(t *testing.T, s *stage) {
	const name = "memogone:1"
	generator := s.client(t, 0)
	g := generator.generate(name)
	leaving, staying := s.joinMemo(t, 1, name), s.joinMemo(t, 1, name)
	began := time.Now()
	leaving.Close()
	if line := s.awaitLine(t, name, 1); line[0] != staying.token {
		t.Fatalf("%q is left in line", line)
	}
	took(t, "a memo caller was out of line", began, 100*time.Millisecond, time.Second)
	began = time.Now()
	staying.Reset(t)
	s.awaitLine(t, name, 0)
	eventually(t, "nobody listens to the channel any more", func() bool {
		return s.must(t, "PUBSUB", "NUMSUB", keyOf(name, "notif")).([]any)[1] == int64(0)
	})
	took(t, "the last memo caller was out of line, and nobody listens", began, 100*time.Millisecond, time.Second)
	// One that is promoted and gone has promised nothing.
	first, second := s.joinMemo(t, 2, name, "SESSION"), s.joinMemo(t, 1, name)
	generator.unlock(name, g)
	first.granted()
	first.Close()
	second.granted()
	second.unlocks()
}

func TestARejectionReachesAProxyThatWasCutOff(t *testing.T) {
	t.Parallel()
	s := setup{relayed: true}.start(t)
	const name = "rejected:3"
	generator := s.client(t, 0)
	g := generator.generate(name)
	var waiters []*waiter
	for i := range 6 {
		waiters = append(waiters, s.joinMemo(t, i%2, name))
	}
	instance := s.instanceOf(t, waiters[1])
	s.relays[1].Refuse(true)
	for _, p := range s.own(t, 1) {
		s.kill(t, p)
	}
	s.awaitListeners(t, instance, 0)
	generator.want(int64(1), "KS.REJECT", name, g.token, "no")
	for i := 0; i < len(waiters); i += 2 {
		if got := waiters[i].next(); got != refusal("MEMOERR no") {
			t.Fatalf("a waiter was answered %#v", got)
		}
	}
	began := time.Now()
	s.relays[1].Refuse(false)
	for i := 1; i < len(waiters); i += 2 {
		if got := waiters[i].next(); got != refusal("MEMOERR no") {
			t.Fatalf("a waiter of the proxy that was cut off was answered %#v", got)
		}
	}
	took(t, "the waiters of a proxy that was cut off were told", began, 1200*time.Millisecond, 5*time.Second)
	generator.unlock(name, generator.generate(name))
}

func mixedLine(t *testing.T, s *stage) {
	const name = "mixed:1"
	generator := s.client(t, 0)
	g := generator.generate(name)
	locks, memos := []*waiter{}, []*waiter{}
	for i := range 3 {
		memos = append(memos, s.joinMemo(t, i, name))
		locks = append(locks, s.join(t, (i+1)%3, name))
	}
	generator.want(int64(1), "KS.RESOLVE", name, g.token, "v", "PX", "30000")
	for _, w := range memos {
		wantValue(t, w.next(), "v")
	}
	if line := s.line(t, name); len(line) != 2 { // the first has the lock
		t.Fatalf("after the resolve %q wait", line)
	}
	inTurn(t, locks, 0)

	// A hold by KS.LOCK is no promise; memo callers behind it wait for the value all the same.
	s.must(t, "DEL", name)
	holder := s.client(t, 1)
	h := holder.lock(name)
	memo, lock := s.joinMemo(t, 2, name), s.join(t, 0, name)
	holder.want(int64(0), "KS.RESOLVE", name, h.token, "v")
	holder.want(int64(0), "KS.REJECT", name, h.token, "m")
	holder.unlock(name, h)
	memo.granted() // generate: he was first
	lock.silent("one generates")
	memo2 := s.joinMemo(t, 1, name)
	memo.want(int64(1), "KS.REJECT", name, memo.token, "not for you")
	if got := memo2.next(); got != refusal("MEMOERR not for you") {
		t.Fatalf("a waiter was answered %#v", got)
	}
	inTurn(t, []*waiter{lock}, 0)
}
