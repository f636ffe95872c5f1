package locks

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

func oneGenerates(t *testing.T, s *stage.Stage) {
	for round, value := range []string{"computed once", "", strings.Repeat("large", 250_000)} {
		name := fmt.Sprintf("one:%d", round)
		callers := 50
		if len(value) > 1<<20 { // it does not go out on the channel
			callers = 10
		}
		var all []*stage.Client
		for i := range callers {
			c := s.Client(t, i%2)
			c.Ask("KS.MEMO", name)
			all = append(all, c)
		}
		s.AwaitLine(t, name, callers-1)
		outcomes := stage.Collect(all)
		first := <-outcomes
		g, err := stage.AsGrant(first.Reply)
		if first.Err != nil || err != nil {
			t.Fatalf("the generator: %v, %v", first.Err, err)
		}
		if n := len(outcomes); n > 0 {
			t.Fatalf("%d more were answered while one generates", n)
		}
		began := time.Now()
		first.Expect(int64(1), "KS.RESOLVE", name, g.Token, value, "PX", "30000")
		for range callers - 1 {
			o := <-outcomes
			if o.Err != nil {
				t.Fatal(o.Err)
			}
			stage.WantValue(t, o.Reply, value)
		}
		stage.Took(t, fmt.Sprintf("%d waiters had a value of %d bytes", callers-1, len(value)), began, 0, 5*time.Second)
		stage.WantValue(t, s.Client(t, 2).Call("KS.MEMO", name, "NOWAIT"), value)
		first.Expect(int64(0), "KS.RESOLVE", name, g.Token, "too late")
		s.AwaitLine(t, name, 0)
		if got := first.Call("GET", name); got != value {
			t.Fatalf("GET answers %.100q", got)
		}
		first.Expect(int64(1), "DEL", name)
		for _, c := range all {
			c.Close()
		}
	}
}

func generatorGivesUp(t *testing.T, s *stage.Stage) {
	ways := []struct {
		name    string
		options []string
		giveUp  func(c *stage.Client, name string, g stage.Grant) (since time.Time)
	}{
		{"its lease runs out", []string{"PX", "300"}, func(*stage.Client, string, stage.Grant) time.Time {
			return time.Now().Add(300 * time.Millisecond)
		}},
		{"its SESSION connection is closed", []string{"SESSION"}, func(c *stage.Client, _ string, _ stage.Grant) time.Time {
			c.Close()
			return time.Now()
		}},
		{"KS.UNLOCK", nil, func(c *stage.Client, name string, g stage.Grant) time.Time {
			c.Unlock(name, g)
			return time.Now()
		}},
	}
	for i, way := range ways {
		name := fmt.Sprintf("givesup:%d", i)
		generator := s.Client(t, 0)
		g := generator.Generate(name, way.options...)
		waiters := []*stage.Waiter{s.JoinMemo(t, 1, name), s.JoinMemo(t, 0, name), s.JoinMemo(t, 2, name)}
		since := way.giveUp(generator, name, g)
		if next := waiters[0].Granted(); next.Token == g.Token {
			t.Fatalf("%s: the promise is the old one", way.name)
		}
		stage.Took(t, "after "+way.name+" the next was promoted", since, 100*time.Millisecond, time.Second)
		for _, w := range waiters[1:] {
			w.Silent("one generates")
		}
		s.Client(t, 2).Expect(int64(0), "KS.RESOLVE", name, g.Token, "too late")
		s.Client(t, 2).Expect(int64(1), "KS.RESOLVE", name, waiters[0].Token, "the second's", "PX", "30000")
		for _, w := range waiters[1:] {
			stage.WantValue(t, w.Next(), "the second's")
		}
		s.Client(t, 0).Expect(int64(1), "DEL", name)
	}
}

func rejected(t *testing.T, s *stage.Stage) {
	const name = "rejected:1"
	generator := s.Client(t, 0)
	g := generator.Generate(name)
	var waiters []*stage.Waiter
	for i := range 9 {
		waiters = append(waiters, s.JoinMemo(t, i%3, name))
	}
	generator.Expect(int64(0), "KS.REJECT", name, "somebody else's", "no")
	began := time.Now()
	generator.Expect(int64(1), "KS.REJECT", name, g.Token, "no such\nthing")
	for _, w := range waiters {
		if got := w.Next(); got != stage.Refusal("MEMOERR no such thing") {
			t.Fatalf("a waiter was answered %#v", got)
		}
	}
	stage.Took(t, "nine waiters on three proxies were told of a rejection", began, 0, 2*time.Second)
	generator.Expect(int64(0), "KS.REJECT", name, g.Token, "again")
	generator.Expect(int64(0), "KS.RESOLVE", name, g.Token, "v")
	s.AwaitLine(t, name, 0)

	// Without a TTL the next new caller generates, on whatever proxy, also one whose waiter has been told.
	next := waiters[1].Generate(name)
	late := s.JoinMemo(t, 2, name)
	waiters[1].Expect(int64(1), "KS.RESOLVE", name, next.Token, "v", "PX", "30000")
	stage.WantValue(t, late.Next(), "v")
	waiters[1].Expect(int64(1), "DEL", name)

	last := generator.Generate(name)
	generator.ExpectRefusal("ERR", "KS.REJECT", name, last.Token, strings.Repeat("m", 4<<10+1))
	generator.ExpectRefusal("ERR syntax error", "KS.REJECT", name, last.Token, "m", "NX")
	generator.ExpectRefusal("ERR wrong number of arguments for 'ks.reject' command", "KS.REJECT", name, last.Token)
	generator.Expect(int64(1), "KS.REJECT", name, last.Token, strings.Repeat("m", 4<<10), "PX", "1")
	stage.Eventually(t, "the records of the rejections are gone", func() bool {
		return s.Must(t, "EXISTS", stage.KeyOf(name, "error")) == int64(0)
	})
}

func rejectionRemembered(t *testing.T, s *stage.Stage) {
	const name = "rejected:2"
	generator := s.Client(t, 0)
	g := generator.Generate(name)
	waiters := []*stage.Waiter{s.JoinMemo(t, 0, name), s.JoinMemo(t, 1, name), s.JoinMemo(t, 2, name)}
	until := time.Now().Add(1500 * time.Millisecond) // at the earliest
	generator.Expect(int64(1), "KS.REJECT", name, g.Token, "not today", "PX", "1500")
	for _, w := range waiters {
		if got := w.Next(); got != stage.Refusal("MEMOERR not today") {
			t.Fatalf("a waiter was answered %#v", got)
		}
	}
	for proxy := range s.Proxies {
		got := s.Client(t, proxy).Call("KS.MEMO", name)
		if got != stage.Refusal("MEMOERR not today") && time.Now().Before(until) {
			t.Fatalf("a new caller was answered %#v", got)
		}
	}
	c := s.Client(t, 1)
	var reply any
	stage.Eventually(t, "the error is forgotten and somebody generates", func() bool {
		reply = c.Call("KS.MEMO", name)
		_, told := reply.(stage.Refusal)
		return !told
	})
	if early := time.Until(until); early > 5*time.Millisecond {
		t.Errorf("the error was forgotten %v too early", early)
	}
	next, err := stage.AsGrant(reply)
	if err != nil {
		t.Fatal(err)
	}
	c.Unlock(name, next)
}

func strangerStores(t *testing.T, s *stage.Stage) {
	const name = "stranger:1"
	generator := s.Client(t, 0)
	g := generator.Generate(name)
	waiters := []*stage.Waiter{s.JoinMemo(t, 0, name), s.JoinMemo(t, 1, name), s.JoinMemo(t, 2, name)}
	channel := stage.KeyOf(name, "notif")
	stage.Eventually(t, "all proxies listen to "+channel, func() bool {
		return s.Must(t, "PUBSUB", "NUMSUB", channel).([]any)[1] == int64(len(s.Proxies))
	})
	began := time.Now()
	s.Must(t, "SET", name, "a stranger's", "PX", "30000")
	s.Must(t, "PUBLISH", channel, "a stranger's")
	for _, w := range waiters {
		stage.WantValue(t, w.Next(), "a stranger's")
	}
	stage.Took(t, "waiters had the value that a stranger stored", began, 0, time.Second)
	stage.WantValue(t, generator.Call("KS.MEMO", name), "a stranger's")
	generator.Unlock(name, g)
	s.AwaitLine(t, name, 0)
	stage.Eventually(t, "nobody listens to "+channel, func() bool {
		return s.Must(t, "PUBSUB", "NUMSUB", channel).([]any)[1] == int64(0)
	})
	s.Must(t, "DEL", name)
}

func memoCallersHangUp(t *testing.T, s *stage.Stage) {
	const name = "memogone:1"
	generator := s.Client(t, 0)
	g := generator.Generate(name)
	leaving, staying := s.JoinMemo(t, 1, name), s.JoinMemo(t, 1, name)
	began := time.Now()
	leaving.Close()
	if line := s.AwaitLine(t, name, 1); line[0] != staying.Token {
		t.Fatalf("%q is left in line", line)
	}
	stage.Took(t, "a memo caller was out of line", began, 100*time.Millisecond, time.Second)
	began = time.Now()
	staying.Reset(t)
	s.AwaitLine(t, name, 0)
	stage.Eventually(t, "nobody listens to the channel any more", func() bool {
		return s.Must(t, "PUBSUB", "NUMSUB", stage.KeyOf(name, "notif")).([]any)[1] == int64(0)
	})
	stage.Took(t, "the last memo caller was out of line, and nobody listens", began, 100*time.Millisecond, time.Second)
	// One that is promoted and gone has promised nothing.
	first, second := s.JoinMemo(t, 2, name, "SESSION"), s.JoinMemo(t, 1, name)
	generator.Unlock(name, g)
	first.Granted()
	first.Close()
	second.Granted()
	second.Unlocks()
}

func TestARejectionReachesAProxyThatWasCutOff(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Relayed: true}.Start(t)
	const name = "rejected:3"
	generator := s.Client(t, 0)
	g := generator.Generate(name)
	var waiters []*stage.Waiter
	for i := range 6 {
		waiters = append(waiters, s.JoinMemo(t, i%2, name))
	}
	instance := s.InstanceOf(t, waiters[1])
	s.Relays[1].Refuse(true)
	for _, p := range s.Own(t, 1) {
		s.KillPeer(t, p)
	}
	s.AwaitListeners(t, instance, 0)
	generator.Expect(int64(1), "KS.REJECT", name, g.Token, "no")
	for i := 0; i < len(waiters); i += 2 {
		if got := waiters[i].Next(); got != stage.Refusal("MEMOERR no") {
			t.Fatalf("a waiter was answered %#v", got)
		}
	}
	began := time.Now()
	s.Relays[1].Refuse(false)
	for i := 1; i < len(waiters); i += 2 {
		if got := waiters[i].Next(); got != stage.Refusal("MEMOERR no") {
			t.Fatalf("a waiter of the proxy that was cut off was answered %#v", got)
		}
	}
	stage.Took(t, "the waiters of a proxy that was cut off were told", began, 1200*time.Millisecond, 5*time.Second)
	generator.Unlock(name, generator.Generate(name))
}

func mixedLine(t *testing.T, s *stage.Stage) {
	const name = "mixed:1"
	generator := s.Client(t, 0)
	g := generator.Generate(name)
	locks, memos := []*stage.Waiter{}, []*stage.Waiter{}
	for i := range 3 {
		memos = append(memos, s.JoinMemo(t, i, name))
		locks = append(locks, s.Join(t, (i+1)%3, name))
	}
	generator.Expect(int64(1), "KS.RESOLVE", name, g.Token, "v", "PX", "30000")
	for _, w := range memos {
		stage.WantValue(t, w.Next(), "v")
	}
	if line := s.Line(t, name); len(line) != 2 { // the first has the lock
		t.Fatalf("after the resolve %q wait", line)
	}
	stage.InTurn(t, locks, 0)

	// A hold by KS.LOCK is no promise; memo callers behind it wait for the value all the same.
	s.Must(t, "DEL", name)
	holder := s.Client(t, 1)
	h := holder.Lock(name)
	memo, lock := s.JoinMemo(t, 2, name), s.Join(t, 0, name)
	holder.Expect(int64(0), "KS.RESOLVE", name, h.Token, "v")
	holder.Expect(int64(0), "KS.REJECT", name, h.Token, "m")
	holder.Unlock(name, h)
	memo.Granted() // generate: he was first
	lock.Silent("one generates")
	memo2 := s.JoinMemo(t, 1, name)
	memo.Expect(int64(1), "KS.REJECT", name, memo.Token, "not for you")
	if got := memo2.Next(); got != stage.Refusal("MEMOERR not for you") {
		t.Fatalf("a waiter was answered %#v", got)
	}
	stage.InTurn(t, []*stage.Waiter{lock}, 0)
}
