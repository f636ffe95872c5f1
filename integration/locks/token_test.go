package locks

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func ownerAsksAgain(t *testing.T, s *stage) {
	const name, token = "again:1", "chosen by the caller"
	first, second := s.client(t, 0), s.client(t, 1)
	g := first.lock(name, "PX", "2000", "TOKEN", token)
	if g.token != token {
		t.Fatalf("granted to %q", g.token)
	}
	again := second.lock(name, "EX", "100", "TOKEN", token)
	if again != g {
		t.Fatalf("asked again: %+v, at first %+v", again, g)
	}
	if ttl := s.must(t, "PTTL", keyOf(name, "lock")).(int64); ttl < 60_000 {
		t.Errorf("asked again the lease ends in %d ms", ttl)
	}
	// The late end of the first connection leaves the grant alone, also when it was SESSION's.
	if got := first.lock(name, "SESSION", "TOKEN", token); got != g {
		t.Fatalf("asked again with SESSION: %+v, at first %+v", got, g)
	}
	if got := second.lock(name, "SESSION", "TOKEN", token); got != g {
		t.Fatalf("asked again with SESSION: %+v, at first %+v", got, g)
	}
	w := s.join(t, 2, name)
	first.Close()
	s.awaitClosed(t, first)
	first = s.client(t, 0)
	if got := first.lock(name, "EX", "100", "TOKEN", token); got != g { // a lease again
		t.Fatalf("asked again: %+v, at first %+v", got, g)
	}
	second.Close()
	s.awaitClosed(t, second)
	s.client(t, 1).want(int64(1), "KS.EXTEND", name, token, "EX", "50")
	w.silent("the lock is held")
	first.unlock(name, g)
	if next := w.granted(); next.fence <= g.fence {
		t.Fatalf("%+v after %+v", next, g)
	}
	w.unlocks()

	for _, bad := range []string{"", strings.Repeat("t", 129)} {
		got := first.do("KS.LOCK", name, "NOWAIT", "TOKEN", bad)
		if _, ok := got.(refusal); !ok {
			t.Errorf("a token of %d bytes: %#v", len(bad), got)
		}
	}
	long := first.lock(name, "TOKEN", strings.Repeat("t", 128))
	first.unlock(name, long)
	first.wantRefusal("ERR syntax error", "KS.LOCK", name, "TOKEN")
	first.wantRefusal("ERR syntax error", "KS.LOCK", name, "TOKEN", "a", "TOKEN", "b")
	first.wantRefusal("ERR syntax error", "KS.LOCK", name, "SESSION", "PX", "5")
}

// awaitClosed waits until a proxy has noticed the end of a connection: its lane
// is closed.
func (s *stage) awaitClosed(t testing.TB, c *client) {
	t.Helper()
	id := fmt.Sprint(c.id)
	eventually(t, "the lane of a client that is gone is closed", func() bool {
		return s.must(t, "CLIENT", "LIST", "ID", id) == ""
	})
}

func waiterAsksAgain(t *testing.T, s *stage) {
	const name, token = "again:2", "the one who asks again"
	holder := s.client(t, 0)
	g := holder.lock(name)
	first, other := s.join(t, 1, name, "TOKEN", token), s.join(t, 0, name)
	before := s.line(t, name)
	place := s.place(t, name, token)
	again := &waiter{s.client(t, 2), name, token}
	again.ask("KS.LOCK", name, "TOKEN", token)
	if reply := first.Reply(t); reply != "*-1\r\n" {
		t.Fatalf("the older call answers %q", reply)
	}
	if now := s.line(t, name); !slices.Equal(now, before) {
		t.Fatalf("asked again the line is %q, before %q", now, before)
	}
	if now := s.place(t, name, token); now == place {
		t.Fatalf("the place is still the older call's: %s", now)
	}
	first.Close()
	s.awaitClosed(t, first.client)
	// On the same proxy, and by a third call, too.
	third := &waiter{s.client(t, 2), name, token}
	third.ask("KS.LOCK", name, "TOKEN", token)
	if reply := again.Reply(t); reply != "*-1\r\n" {
		t.Fatalf("the older call answers %q", reply)
	}
	holder.unlock(name, g)
	g = third.granted()
	// And it is granted to the call it was taken over by, whose predecessor's end changes nothing.
	again.Close()
	s.awaitClosed(t, again.client)
	other.silent("the lock is held")
	s.client(t, 1).want(int64(1), "KS.EXTEND", name, token, "EX", "30")
	third.unlocks()
	inTurn(t, []*waiter{other}, g.fence)
	s.awaitFree(t, name)
}

// sentAgainMeanwhile is what client libraries do after a timeout: they close the
// connection and send the call again on another, which ends at another proxy.
// The cleaning up after the first must not touch what the second has got, in
// whatever order they come, and whether the lock is handed over before, between
// or after them.
func sentAgainMeanwhile(t *testing.T, s *stage) {
	const name = "meanwhile:1"
	for i := range 30 {
		options := []string{"EX", "30"}
		if i%2 == 1 {
			options = []string{"SESSION"}
		}
		options = append(options, "TOKEN", fmt.Sprint("attempt ", i))
		holder := s.client(t, i%3)
		g := holder.lock(name)
		first := s.join(t, (i+1)%3, name, options...)
		other := s.join(t, i%3, name)
		second := &waiter{s.client(t, (i+2)%3), name, first.token}

		var all sync.WaitGroup
		all.Go(func() {
			time.Sleep(time.Duration(i%4) * 300 * time.Microsecond) // before, between, after
			holder.ask("KS.UNLOCK", name, g.token)
		})
		all.Go(func() {
			time.Sleep(time.Duration(i%5) * 300 * time.Microsecond)
			first.Close()
		})
		all.Go(func() {
			time.Sleep(time.Duration(i%3) * 300 * time.Microsecond)
			second.ask(append([]string{"KS.LOCK", name}, options...)...)
		})
		all.Wait()
		if n := holder.next(); n != int64(1) {
			t.Fatalf("KS.UNLOCK answers %v", n)
		}
		// The line: first's place, kept or taken over; its second call is granted before other
		// is, or other is granted while nobody waits in that place, and gives the lock on.
		outcomes := collect([]*client{second.client, other.client})
		for range 2 {
			o := <-outcomes
			next, err := asGrant(o.reply)
			if o.err != nil || err != nil {
				t.Fatalf("round %d: %v, %v", i, o.err, err)
			}
			if next.fence <= g.fence {
				t.Fatalf("round %d: fence %d after %d", i, next.fence, g.fence)
			}
			g = next
			s.awaitClosed(t, first.client)
			if owner := s.owner(t, name); owner != g.token {
				t.Fatalf("round %d: granted to %q, but the lock is %q's", i, g.token, owner)
			}
			o.want(int64(1), "KS.EXTEND", name, g.token, "EX", "20")
			o.unlock(name, g)
		}
		for _, c := range []*client{holder, second.client, other.client} {
			c.Close()
		}
	}
	s.awaitFree(t, name)
	s.awaitLine(t, name, 0)
}

// place is how Redis has somebody who waits.
func (s *stage) place(t testing.TB, name, token string) string {
	t.Helper()
	place, _ := s.must(t, "HGET", keyOf(name, "lockwaitingset"), token).(string)
	if place == "" {
		t.Fatalf("%q does not wait for %s", token, name)
	}
	return place
}

func placeIsKept(t *testing.T, s *stage) {
	const name, token = "kept:1", "loops"
	holder := s.client(t, 0)
	g := holder.lock(name)
	loops := &waiter{s.client(t, 1), name, token}
	loops.ask("KS.LOCK", name, "WAIT", "50", "TOKEN", token)
	s.awaitLine(t, name, 1)
	behind := s.join(t, 2, name)
	if got := loops.next(); got != nil {
		t.Fatalf("WAIT answers %#v", got)
	}
	if line := s.line(t, name); len(line) != 2 || line[0] != token {
		t.Fatalf("after its WAIT the line is %q", line)
	}

	// Hand-off passes it by and leaves it where it is.
	holder.unlock(name, g)
	g = behind.granted()
	behind2 := s.join(t, 0, name)
	if line := s.line(t, name); len(line) != 2 || line[0] != token {
		t.Fatalf("after it was passed by the line is %q", line)
	}
	kept := s.place(t, name, token)
	loops.ask("KS.LOCK", name, "WAIT", "0", "TOKEN", token)
	eventually(t, "the place is used again", func() bool { return s.place(t, name, token) != kept })
	behind.unlocks()
	inTurn(t, []*waiter{loops, behind2}, g.fence)

	// A hang-up keeps it, too; nobody comes back, so it goes.
	g = holder.lock(name)
	gone := s.client(t, 1)
	gone.ask("KS.LOCK", name, "TOKEN", token)
	s.awaitLine(t, name, 1)
	ended := time.Now()
	gone.Close()
	s.awaitClosed(t, gone)
	holder.unlock(name, g)
	eventually(t, "the place is dropped, at the latest by the next who has the lock", func() bool {
		holder.unlock(name, holder.lock(name, "NOWAIT"))
		return len(s.line(t, name)) == 0
	})
	if kept := time.Since(ended); kept < 1900*time.Millisecond {
		t.Errorf("the place was kept for %v only", kept)
	}
	took(t, "a kept place was gone", ended, 2*time.Second, 8*time.Second)
}
