package locks

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

func waiterHangsUp(t *testing.T, s *stage) {
	const name = "hangup:1"
	// More than the proxy reads ahead, less than the kernel takes beyond that: the FIN arrives, behind it.
	unread := strings.Repeat(harness.Command("SET", "hangup:unread", strings.Repeat("x", 1000)), 80)
	ways := []struct {
		name string
		end  func(*waiter)
	}{
		{"FIN", func(w *waiter) { w.CloseWrite(t) }},
		{"close", func(w *waiter) { w.Close() }},
		{"RST", func(w *waiter) { w.Reset(t) }},
		{"FIN behind unread input", func(w *waiter) {
			w.Send(t, unread)
			w.CloseWrite(t)
		}},
		{"RST behind unread input", func(w *waiter) {
			w.Send(t, unread)
			w.Reset(t)
		}},
	}
	holder := s.client(t, 0)
	g := holder.lock(name)
	for proxy := range 2 {
		for _, way := range ways {
			leaving, staying := s.join(t, proxy, name), s.join(t, 2, name)
			began := time.Now()
			way.end(leaving)
			line := s.awaitLine(t, name, 1)
			took(t, "out of line after "+way.name, began, 100*time.Millisecond, time.Second)
			if line[0] != staying.token {
				t.Fatalf("%s: %s is left in line, want %s", way.name, line[0], staying.token)
			}
			holder.unlock(name, g)
			g = staying.granted()
			holder = staying.client
		}
	}
	holder.unlock(name, g)
	s.awaitFree(t, name)
	eventually(t, "what came before the end was not lost on the way", func() bool {
		return s.must(t, "DEL", "hangup:unread") == int64(1)
	})
}

// grantCrossesHangUp lets the first in line hang up at the moment it is
// granted. Either it was granted before, and is told, or the next has the lock at
// once.
func grantCrossesHangUp(t *testing.T, s *stage) {
	const name, rounds = "crossing:1", 40
	holder := s.client(t, 0)
	g := holder.lock(name)
	before, slowest := 0, time.Duration(0)
	for i := range rounds {
		leaving, staying := s.join(t, i%3, name), s.join(t, (i/3)%3, name)
		var both sync.WaitGroup
		lead := time.Duration(i%10-1) * time.Millisecond // of the hang-up
		both.Go(func() {
			time.Sleep(-lead)
			leaving.CloseWrite(t)
		})
		both.Go(func() {
			time.Sleep(lead)
			holder.ask("KS.UNLOCK", name, g.token)
		})
		both.Wait()
		began := time.Now()
		if n := holder.next(); n != int64(1) {
			t.Fatalf("KS.UNLOCK answers %v", n)
		}
		switch reply := leaving.next().(type) {
		case nil:
		default: // it is a lease, which outlives the connection
			first, err := asGrant(reply)
			if err != nil || first.fence <= g.fence {
				t.Fatalf("granted %#v after fence %d", reply, g.fence)
			}
			g = first
			before++
			holder.unlock(name, g)
		}
		next := staying.granted()
		slowest = max(slowest, time.Since(began))
		if next.fence <= g.fence {
			t.Fatalf("fence %d after %d", next.fence, g.fence)
		}
		holder, g = staying.client, next
	}
	t.Logf("of %d grants that crossed a hang-up %d were told in time; slowest hand-on: %v (promised: at once)",
		rounds, before, slowest)
	if slowest > time.Second {
		t.Errorf("a grant that crossed a hang-up was handed on after %v", slowest)
	}
	holder.unlock(name, g)
	s.awaitFree(t, name)
}

func waitingForOneself(t *testing.T, s *stage) {
	const name = "oneself:1"
	c := s.client(t, 0)
	g := c.lock(name, "SESSION")
	began := time.Now()
	c.wantRefusal("DEADLOCK ", "KS.LOCK", name)
	took(t, "the deadlock of a SESSION holder was told", began, 0, time.Second)
	c.wantRefusal("DEADLOCK ", "KS.MEMO", name)
	c.wantRefusal("DEADLOCK ", "KS.LOCK", name, "WAIT", "10000")
	c.unlock(name, g)
	c.unlock(name, c.lock(name))
	s.awaitLine(t, name, 0)
}

// waitingForWhatIsBehind: many callers share one connection, and behind the call that waits is the
// unlock it waits for.
func waitingForWhatIsBehind(t *testing.T, s *stage) {
	const name = "behind:1"
	c := s.client(t, 0)
	g := c.lock(name)
	began := time.Now()
	c.Send(t, harness.Command("KS.LOCK", name)+harness.Command("KS.UNLOCK", name, g.token)+harness.Command("PING"))
	if r, ok := c.next().(refusal); !ok || !strings.HasPrefix(string(r), "DEADLOCK ") {
		t.Fatalf("waiting for the unlock behind it answers %#v", r)
	}
	took(t, "the deadlock of a shared connection was told", began, 0, time.Second)
	if n := c.next(); n != int64(1) {
		t.Fatalf("KS.UNLOCK answers %#v", n)
	}
	if pong := c.next(); pong != "PONG" {
		t.Fatalf("PING answers %#v", pong)
	}
	s.awaitFree(t, name)
	s.awaitLine(t, name, 0)
}
