package memo

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// brief is the ks-lock-ttl for tests that wait for it to end.
const brief = 1500 * time.Millisecond

func startBrief(t *testing.T) *stage.Stage {
	return stage.Setup{Proxies: 3, Args: []string{"--ks-lock-ttl", fmt.Sprint(brief.Milliseconds())}}.Start(t)
}

// elsewhere is begin with a crowd on the two proxies that are not the generator's.
func elsewhere(t *testing.T, s *stage.Stage, options ...string) *scene {
	t.Helper()
	c := open(t, s, options...)
	for i := range crowd {
		c.join(1 + i%2)
	}
	c.awaitSubscribed(2)
	c.collect(c.waiters...)
	return c
}

func TestTheGeneratorsProxyIsKilled(t *testing.T) {
	t.Parallel()
	t.Run("lease", func(t *testing.T) {
		t.Parallel()
		s := startBrief(t)
		c := elsewhere(t, s, "EX", "60")
		began := time.Now()
		s.Proxies[0].Kill(t)
		s.Client(t, 2).Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "over another proxy", "PX", "60000")
		c.have("over another proxy", crowd)
		c.row("generator's proxy SIGKILLed (lease), resolves over another", "6 of 6 have the value", time.Since(began), soon)
		c.closes("over another proxy")
	})
	t.Run("SESSION", func(t *testing.T) {
		t.Parallel()
		s := startBrief(t)
		c := elsewhere(t, s, "SESSION")
		began := time.Now()
		s.Proxies[0].Kill(t)
		w := c.first(0)
		took := time.Since(began)
		c.resolves(w, crowd-1)
		c.row(fmt.Sprintf("generator's proxy SIGKILLed (SESSION, ks-lock-ttl %v)", brief), "the first is promoted within the TTL, 5 have its value", took, brief+soon)
	})
	t.Run("stopped in order", func(t *testing.T) {
		t.Parallel()
		s := startBrief(t)
		c := elsewhere(t, s, "SESSION")
		waits := s.JoinMemo(t, 0, c.name)
		began := time.Now()
		s.Proxies[0].Signal(t, syscall.SIGTERM)
		w := c.first(0)
		took := time.Since(began)
		if got, ok := waits.Next().(stage.Refusal); !ok || !strings.HasPrefix(string(got), "KSUNAVAILABLE ") {
			t.Fatalf("who waits on a proxy that stops is answered %#v", got)
		}
		s.Proxies[0].WaitExit(t, harness.Patience)
		c.resolves(w, crowd-1)
		c.row("generator's proxy stopped by SIGTERM (SESSION)", "the first is promoted, 5 have its value; who waits there KSUNAVAILABLE", took, soon)
	})
}

func TestAWaitersProxyIsKilled(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"resolves", "rejects", "gives up", "lapses"} {
		t.Run("generator "+end, func(t *testing.T) {
			t.Parallel()
			s := startBrief(t)
			c := open(t, s, "EX", "60")
			var gone []*stage.Waiter
			for range 2 { // those who are gone stand in front and between
				gone = append(gone, s.JoinMemo(t, 1, c.name))
				c.join(2)
				c.join(0)
			}
			c.collect(c.waiters...)
			s.Proxies[1].Kill(t)
			for _, w := range gone {
				w.AwaitEnd(t)
			}
			var began time.Time
			if end == "lapses" {
				began = c.lapses()
			} else {
				began = c.answers(end)
			}
			const failure = "proxy of the first and the fourth of six SIGKILLed; generator "
			const rest = 4
			switch end {
			case "resolves":
				c.have("v", rest)
				c.row(failure+end, "4 of 4 have the value", time.Since(began), soon)
				c.closes("v")
			case "rejects":
				c.told("no", rest)
				c.row(failure+end, "4 of 4 have the error", time.Since(began), soon)
			default:
				w := c.first(0)
				took := sinceOrZero(began)
				c.resolves(w, rest-1)
				c.row(failure+end, "the dead are skipped, the first alive is promoted, 3 have its value", took, 2*soon)
			}
		})
	}
}

func TestThePromotedsProxyIsKilled(t *testing.T) {
	t.Parallel()
	s := startBrief(t)
	c := open(t, s, "EX", "60")
	first := s.JoinMemo(t, 1, c.name)
	for i := range crowd - 1 {
		c.join(i % 2 * 2)
	}
	c.collect(c.waiters...)
	c.generator.Unlock(c.name, c.promise)
	first.Granted()
	began := time.Now()
	s.Proxies[1].Kill(t)
	w := c.first(0)
	took := time.Since(began)
	c.resolves(w, crowd-2)
	c.row(fmt.Sprintf("promoted waiter's proxy SIGKILLed, lease %v", brief), "the next is promoted when the lease has run out, 4 have its value", took, brief+soon)
}

func TestAFrozenProxyHasMemoWaiters(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"resolves", "rejects", "gives up"} {
		t.Run("generator "+end, func(t *testing.T) {
			t.Parallel()
			s := stage.Setup{Proxies: 3}.Start(t)
			c := open(t, s, "EX", "60")
			frozen := []*stage.Waiter{s.JoinMemo(t, 1, c.name), s.JoinMemo(t, 1, c.name)}
			for i := range 4 {
				c.join(i % 2 * 2)
			}
			c.collect(c.waiters...)
			thaw := s.FreezeProxy(t, 1)
			began := c.answers(end)
			failure := "proxy of the first two of six frozen (SIGSTOP), thawed later; generator " + end
			switch end {
			case "resolves":
				c.have("v", 4)
			case "rejects":
				c.told("no", 4)
			default:
				w := c.first(0)
				took := time.Since(began)
				w.Expect(int64(1), "KS.RESOLVE", c.name, w.Token, "v", "PX", "60000")
				c.have("v", 3)
				c.row(failure, "the first that answers is promoted after one claim window", took, 2*time.Second+soon)
			}
			if end != "gives up" {
				c.row(failure, "the 4 others are answered", time.Since(began), soon)
			}
			began = time.Now()
			thaw()
			for _, w := range frozen {
				if end == "rejects" {
					if got := w.Next(); got != stage.Refusal("MEMOERR no") {
						t.Fatalf("a waiter of a proxy that was frozen is answered %#v", got)
					}
				} else {
					stage.WantValue(t, w.Next(), "v")
				}
			}
			c.row(failure, "the 2 of the thawed proxy are answered the same", time.Since(began), 2*soon)
		})
	}
}
