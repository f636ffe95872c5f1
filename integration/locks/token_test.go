package locks

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

func ownerAsksAgain(t *testing.T, s *stage.Stage) {
	const name, token = "again:1", "chosen by the caller"
	first, second := s.Client(t, 0), s.Client(t, 1)
	g := first.Lock(name, "PX", "2000", "TOKEN", token)
	if g.Token != token {
		t.Fatalf("granted to %q", g.Token)
	}
	again := second.Lock(name, "EX", "100", "TOKEN", token)
	if again != g {
		t.Fatalf("asked again: %+v, at first %+v", again, g)
	}
	if ttl := s.Must(t, "PTTL", stage.KeyOf(name, "lock")).(int64); ttl < 60_000 {
		t.Errorf("asked again the lease ends in %d ms", ttl)
	}
	// The late end of the first connection leaves the grant alone, also when it was SESSION's.
	if got := first.Lock(name, "SESSION", "TOKEN", token); got != g {
		t.Fatalf("asked again with SESSION: %+v, at first %+v", got, g)
	}
	if got := second.Lock(name, "SESSION", "TOKEN", token); got != g {
		t.Fatalf("asked again with SESSION: %+v, at first %+v", got, g)
	}
	w := s.Join(t, 2, name)
	first.Close()
	s.AwaitClosed(t, first)
	first = s.Client(t, 0)
	if got := first.Lock(name, "EX", "100", "TOKEN", token); got != g { // a lease again
		t.Fatalf("asked again: %+v, at first %+v", got, g)
	}
	second.Close()
	s.AwaitClosed(t, second)
	s.Client(t, 1).Expect(int64(1), "KS.EXTEND", name, token, "EX", "50")
	w.Silent("the lock is held")
	first.Unlock(name, g)
	if next := w.Granted(); next.Fence <= g.Fence {
		t.Fatalf("%+v after %+v", next, g)
	}
	w.Unlocks()

	for _, bad := range []string{"", strings.Repeat("t", 129)} {
		got := first.Call("KS.LOCK", name, "NOWAIT", "TOKEN", bad)
		if _, ok := got.(stage.Refusal); !ok {
			t.Errorf("a token of %d bytes: %#v", len(bad), got)
		}
	}
	long := first.Lock(name, "TOKEN", strings.Repeat("t", 128))
	first.Unlock(name, long)
	first.ExpectRefusal("ERR syntax error", "KS.LOCK", name, "TOKEN")
	first.ExpectRefusal("ERR syntax error", "KS.LOCK", name, "TOKEN", "a", "TOKEN", "b")
	first.ExpectRefusal("ERR syntax error", "KS.LOCK", name, "SESSION", "PX", "5")
}

func waiterAsksAgain(t *testing.T, s *stage.Stage) {
	const name, token = "again:2", "the one who asks again"
	holder := s.Client(t, 0)
	g := holder.Lock(name)
	first, other := s.Join(t, 1, name, "TOKEN", token), s.Join(t, 0, name)
	before := s.Line(t, name)
	place := s.Place(t, name, token)
	again := &stage.Waiter{Client: s.Client(t, 2), Name: name, Token: token}
	again.Ask("KS.LOCK", name, "TOKEN", token)
	if reply := first.Reply(t); reply != "*-1\r\n" {
		t.Fatalf("the older call answers %q", reply)
	}
	if now := s.Line(t, name); !slices.Equal(now, before) {
		t.Fatalf("asked again the line is %q, before %q", now, before)
	}
	if now := s.Place(t, name, token); now == place {
		t.Fatalf("the place is still the older call's: %s", now)
	}
	first.Close()
	s.AwaitClosed(t, first.Client)
	// On the same proxy, and by a third call, too.
	third := &stage.Waiter{Client: s.Client(t, 2), Name: name, Token: token}
	third.Ask("KS.LOCK", name, "TOKEN", token)
	if reply := again.Reply(t); reply != "*-1\r\n" {
		t.Fatalf("the older call answers %q", reply)
	}
	holder.Unlock(name, g)
	g = third.Granted()
	// And it is granted to the call it was taken over by, whose predecessor's end changes nothing.
	again.Close()
	s.AwaitClosed(t, again.Client)
	other.Silent("the lock is held")
	s.Client(t, 1).Expect(int64(1), "KS.EXTEND", name, token, "EX", "30")
	third.Unlocks()
	stage.InTurn(t, []*stage.Waiter{other}, g.Fence)
	s.AwaitFree(t, name)
}

// sentAgainMeanwhile is what client libraries do after a timeout: they close the
// connection and send the call again on another, which ends at another proxy.
// The cleaning up after the first must not touch what the second has got, in
// whatever order they come, and whether the lock is handed over before, between
// or after them.
func sentAgainMeanwhile(t *testing.T, s *stage.Stage) {
	const name = "meanwhile:1"
	for i := range 30 {
		options := []string{"EX", "30"}
		if i%2 == 1 {
			options = []string{"SESSION"}
		}
		options = append(options, "TOKEN", fmt.Sprint("attempt ", i))
		holder := s.Client(t, i%3)
		g := holder.Lock(name)
		first := s.Join(t, (i+1)%3, name, options...)
		other := s.Join(t, i%3, name)
		second := &stage.Waiter{Client: s.Client(t, (i+2)%3), Name: name, Token: first.Token}

		var all sync.WaitGroup
		all.Go(func() {
			time.Sleep(time.Duration(i%4) * 300 * time.Microsecond) // before, between, after
			holder.Ask("KS.UNLOCK", name, g.Token)
		})
		all.Go(func() {
			time.Sleep(time.Duration(i%5) * 300 * time.Microsecond)
			first.Close()
		})
		all.Go(func() {
			time.Sleep(time.Duration(i%3) * 300 * time.Microsecond)
			second.Ask(append([]string{"KS.LOCK", name}, options...)...)
		})
		all.Wait()
		if n := holder.Next(); n != int64(1) {
			t.Fatalf("KS.UNLOCK answers %v", n)
		}
		// The line: first's place, kept or taken over; its second call is granted before other
		// is, or other is granted while nobody waits in that place, and gives the lock on.
		outcomes := stage.Collect([]*stage.Client{second.Client, other.Client})
		for range 2 {
			o := <-outcomes
			next, err := stage.AsGrant(o.Reply)
			if o.Err != nil || err != nil {
				t.Fatalf("round %d: %v, %v", i, o.Err, err)
			}
			if next.Fence <= g.Fence {
				t.Fatalf("round %d: fence %d after %d", i, next.Fence, g.Fence)
			}
			g = next
			s.AwaitClosed(t, first.Client)
			if owner := s.Owner(t, name); owner != g.Token {
				t.Fatalf("round %d: granted to %q, but the lock is %q's", i, g.Token, owner)
			}
			o.Expect(int64(1), "KS.EXTEND", name, g.Token, "EX", "20")
			o.Unlock(name, g)
		}
		for _, c := range []*stage.Client{holder, second.Client, other.Client} {
			c.Close()
		}
	}
	s.AwaitFree(t, name)
	s.AwaitLine(t, name, 0)
}

func placeIsKept(t *testing.T, s *stage.Stage) {
	const name, token = "kept:1", "loops"
	holder := s.Client(t, 0)
	g := holder.Lock(name)
	loops := &stage.Waiter{Client: s.Client(t, 1), Name: name, Token: token}
	loops.Ask("KS.LOCK", name, "WAIT", "50", "TOKEN", token)
	s.AwaitLine(t, name, 1)
	behind := s.Join(t, 2, name)
	if got := loops.Next(); got != nil {
		t.Fatalf("WAIT answers %#v", got)
	}
	if line := s.Line(t, name); len(line) != 2 || line[0] != token {
		t.Fatalf("after its WAIT the line is %q", line)
	}

	// Hand-off passes it by and leaves it where it is.
	holder.Unlock(name, g)
	g = behind.Granted()
	behind2 := s.Join(t, 0, name)
	if line := s.Line(t, name); len(line) != 2 || line[0] != token {
		t.Fatalf("after it was passed by the line is %q", line)
	}
	kept := s.Place(t, name, token)
	loops.Ask("KS.LOCK", name, "WAIT", "0", "TOKEN", token)
	stage.Eventually(t, "the place is used again", func() bool { return s.Place(t, name, token) != kept })
	behind.Unlocks()
	stage.InTurn(t, []*stage.Waiter{loops, behind2}, g.Fence)

	// A hang-up keeps it, too; nobody comes back, so it goes.
	g = holder.Lock(name)
	gone := s.Client(t, 1)
	gone.Ask("KS.LOCK", name, "TOKEN", token)
	s.AwaitLine(t, name, 1)
	ended := time.Now()
	gone.Close()
	s.AwaitClosed(t, gone)
	holder.Unlock(name, g)
	stage.Eventually(t, "the place is dropped, at the latest by the next who has the lock", func() bool {
		holder.Unlock(name, holder.Lock(name, "NOWAIT"))
		return len(s.Line(t, name)) == 0
	})
	if kept := time.Since(ended); kept < 1900*time.Millisecond {
		t.Errorf("the place was kept for %v only", kept)
	}
	stage.Took(t, "a kept place was gone", ended, 2*time.Second, 8*time.Second)
}
