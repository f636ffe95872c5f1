package memo

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

var waiterScenes = []stage.Scene{
	{Name: "any waiter may hang up", Run: anyHangsUp},
	{Name: "all waiters hang up", Run: allHangUp},
	{Name: "the promoted hangs up with the promise", Run: promotedHangsUp},
	{Name: "WAIT ends with nil", Run: waitEnds},
	{Name: "a call that is sent again takes the place over", Run: waiterAsksAgain},
	{Name: "the last waiter leaves while another comes", Run: leavesAndComes},
	{Name: "lock callers wait in the same line", Run: mixed},
}

// without is the waiters but one.
func (c *scene) without(number int) []*stage.Waiter {
	return slices.Delete(slices.Clone(c.waiters), number, number+1)
}

func anyHangsUp(t *testing.T, s *stage.Stage) {
	for _, number := range []int{0, 2, crowd - 1} {
		for end, goes := range map[string]func(*stage.Waiter){
			"closed": func(w *stage.Waiter) { w.Close() },
			"reset":  func(w *stage.Waiter) { w.Reset(t) },
		} {
			c := open(t, s)
			for i := range crowd {
				c.join((i + 1) % len(s.Proxies))
			}
			began := time.Now()
			goes(c.waiters[number])
			c.AwaitLine(t, c.name, crowd-1)
			took := time.Since(began)
			c.waiters = c.without(number)
			c.collect(c.waiters...)
			c.generator.Unlock(c.name, c.promise)
			c.resolves(c.first(0), crowd-2)
			c.row(fmt.Sprintf("waiter %d of 6 hangs up (%s), then the generator gives up", number+1, end), "out of line; the first left is promoted, 4 have its value", took, soon)
		}
	}
}

func allHangUp(t *testing.T, s *stage.Stage) {
	c := begin(t, s)
	began := time.Now()
	for _, w := range c.waiters {
		w.Close()
	}
	c.AwaitLine(t, c.name, 0)
	c.awaitSubscribed(0)
	took := time.Since(began)
	c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "v", "PX", "30000")
	c.row("all 6 waiters hang up", "the line is empty, no proxy listens; the generator resolves", took, soon)
	c.closes("v")
}

// Who has been promoted may go at any time; what it has is as its options say.
func promotedHangsUp(t *testing.T, s *stage.Stage) {
	c := open(t, s)
	c.join(0, "SESSION")
	for i := range crowd - 1 {
		c.join((i + 1) % len(s.Proxies))
	}
	c.listen()
	c.generator.Unlock(c.name, c.promise)
	first := c.first(0)
	began := time.Now()
	first.Close()
	second := c.first(1)
	took := time.Since(began)
	s.Client(t, 0).Expect(int64(0), "KS.RESOLVE", c.name, first.Token, "of the dead")
	c.resolves(second, crowd-2)
	c.row("promoted waiter (SESSION) hangs up with the promise", "the second is promoted, 4 have its value", took, soon)

	// The hang-up and the promotion at the same time: whatever comes first, one generates.
	var longest time.Duration
	for range 20 {
		c = open(t, s)
		for i := range crowd {
			c.join((i+1)%len(s.Proxies), "SESSION")
		}
		c.collect(c.waiters[1:]...)
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.waiters[0].Close()
		}()
		began := time.Now()
		c.generator.Unlock(c.name, c.promise)
		w := c.first(1)
		longest = max(longest, time.Since(began))
		<-done
		c.resolves(w, crowd-2)
	}
	c.row("first in line hangs up just when the generator gives up, 20 times", "the second is promoted, 4 have its value", longest, soon)
}

func waitEnds(t *testing.T, s *stage.Stage) {
	c := open(t, s)
	var brief []*stage.Client
	for proxy := range s.Proxies {
		w := s.JoinMemo(t, proxy, c.name, "WAIT", "3000")
		brief = append(brief, w.Client)
	}
	for i := range crowd {
		c.join((i + 1) % len(s.Proxies))
	}
	c.collect(c.waiters...)
	began := time.Now()
	for _, w := range brief {
		if reply := w.Reply(t); reply != "*-1\r\n" {
			t.Fatalf("at the end of WAIT the answer is %q", reply)
		}
	}
	took := time.Since(began)
	for proxy := range s.Proxies {
		if reply := s.Client(t, proxy).Do(t, "KS.MEMO", c.name, "NOWAIT"); reply != "*-1\r\n" {
			t.Fatalf("NOWAIT answers %q", reply)
		}
	}
	c.AwaitLine(t, c.name, crowd)
	c.generator.Unlock(c.name, c.promise)
	c.resolves(c.first(0), crowd-1)
	c.row("WAIT 3000 of those in front ends; NOWAIT", "nil; the first left is promoted, 5 have its value", took, 3*time.Second+soon)
}

func waiterAsksAgain(t *testing.T, s *stage.Stage) {
	const token = "waits again"
	c := open(t, s)
	c.join(0, "TOKEN", token)
	c.join(0)
	again := &stage.Waiter{Client: s.Client(t, len(s.Proxies)-1), Name: c.name, Token: token}
	again.Ask("KS.MEMO", c.name, "TOKEN", token)
	began := time.Now()
	if reply := c.waiters[0].Next(); reply != nil {
		t.Fatalf("the older call is answered %#v", reply)
	}
	took := time.Since(began)
	last := c.waiters[1]
	c.waiters = []*stage.Waiter{again, last}
	c.collect(again, last)
	c.generator.Unlock(c.name, c.promise)
	c.resolves(c.first(0), 1)
	c.row("waiter asks again with its TOKEN elsewhere", "nil for the older call; the later one is promoted in its place", took, soon)
}

// The last waiter of a proxy goes, and with it the subscription, while the next one comes.
func leavesAndComes(t *testing.T, s *stage.Stage) {
	c := open(t, s)
	last := c.join(0)
	began := time.Now()
	for range 30 {
		comes := s.Client(t, 0)
		comes.Ask("KS.MEMO", c.name)
		last.Close()
		line := c.AwaitLine(t, c.name, 1)
		stage.Eventually(t, "who came stands in line", func() bool {
			line = c.Line(t, c.name)
			return len(line) == 1 && line[0] != last.Token
		})
		last = &stage.Waiter{Client: comes, Name: c.name, Token: line[0]}
	}
	took := time.Since(began)
	c.waiters = []*stage.Waiter{last}
	c.listen()
	c.Must(t, "SET", c.name, "a stranger's", "PX", "30000")
	c.Must(t, "PUBLISH", stage.KeyOf(c.name, "notif"), "a stranger's")
	c.have("a stranger's", 1)
	c.generator.Unlock(c.name, c.promise)
	c.row("30 times the last waiter leaves while another comes", "who came is in line and hears a stranger's value", took, 30*soon)
	c.closes("a stranger's")
}

func mixed(t *testing.T, s *stage.Stage) {
	for _, how := range []string{"lapses", "gives up", "resolves", "rejects"} {
		c := open(t, s)
		var locks []*stage.Waiter
		for i := range 3 {
			c.join(i % len(s.Proxies))
			locks = append(locks, s.Join(t, (i+1)%len(s.Proxies), c.name))
		}
		c.collect(c.waiters...)
		began := time.Now()
		var outcome string
		switch how {
		case "lapses", "gives up":
			if how == "lapses" {
				began = c.lapses()
			} else {
				c.generator.Unlock(c.name, c.promise)
			}
			w := c.first(0)
			w.Expect(int64(1), "KS.RESOLVE", c.name, w.Token, "v", "PX", "30000")
			c.have("v", 2)
			outcome = "the first memo caller is promoted, the other memo callers have its value; then the lock callers in turn"
		case "resolves":
			c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "v", "PX", "30000")
			c.have("v", 3)
			outcome = "all memo callers have the value; then the lock callers in turn"
		case "rejects":
			c.generator.Expect(int64(1), "KS.REJECT", c.name, c.promise.Token, "no")
			c.told("no", 3)
			outcome = "all memo callers have the error; then the lock callers in turn"
		}
		took := sinceOrZero(began)
		stage.InTurn(t, locks, 0)
		c.AwaitFree(t, c.name)
		c.row("lock and memo callers mixed, generator "+how, outcome, took, soon)
		c.Must(t, "DEL", c.name)
		c.NothingOf(t, c.name, "fence", "error")
	}
}

// A waiter whose connection to Redis is held up just when it is promoted, and who hangs up then.
func TestAPromotionThatCrossesAHangUp(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Proxies: 3, Relayed: true}.Start(t)
	for _, when := range []struct {
		name    string
		hold    func(*harness.Link)
		claimed bool // at Redis
		resumes bool // before another is promoted
	}{
		{"before its claim reaches Redis", func(l *harness.Link) { l.LimitUp(0) }, false, true},
		{"before it knows of the promise", func(l *harness.Link) { l.LimitDown(0) }, true, true},
		{"and its claim is held up for longer than the claim window", func(l *harness.Link) { l.LimitUp(0) }, false, false},
	} {
		for _, lease := range [][]string{{"SESSION"}, {"PX", "1000"}} {
			c := open(t, s)
			first := s.Client(t, 1)
			first.Expect("OK", "CLIENT", "SETNAME", c.name)
			c.waiters = append(c.waiters, s.JoinBy(first, "KS.MEMO", c.name, lease...))
			for i := range crowd - 1 {
				c.join((i + 1) % len(s.Proxies))
			}
			c.collect(c.waiters[1:]...)
			link := s.Relays[1].Link(s.Named(t, c.name)["addr"])
			when.hold(link)
			c.generator.Unlock(c.name, c.promise)
			if when.claimed {
				stage.Eventually(t, "the promise is claimed", func() bool {
					return s.Must(t, "HGET", stage.KeyOf(c.name, "fence"), "st") == "h"
				})
				c.AwaitOwner(t, c.name, c.waiters[0].Token)
			} else {
				stage.Eventually(t, "the claim is held up", func() bool { return link.Held() > 0 })
			}
			began := time.Now()
			first.Close()
			if when.resumes { // a lease may have been answered to one who is gone: then it must run out
				link.Resume()
			}
			// A proxy that does not claim is suspect, so its second waiter may be passed over as well.
			number, w := c.promoted()
			if number != 1 && (when.resumes || number != 2) {
				t.Fatalf("waiter %d was promoted", number)
			}
			took := time.Since(began)
			link.Resume()
			c.resolves(w, crowd-2)
			c.row(fmt.Sprintf("first in line (%v) hangs up when promoted, %s", lease, when.name), "the next is promoted, 4 have its value", took, 3*time.Second+soon)
		}
	}
}

// The value is gone when the proxies hear of it: those who wait have it all the same.
func TestAValueThatIsGoneWhenItsProxiesLook(t *testing.T) {
	stage.OnOneAndThree(t, "all links are slow", func(t *testing.T, proxies int) {
		s := stage.Setup{Proxies: proxies, Relayed: true}.Start(t)
		c := begin(t, s)
		for _, r := range s.Relays {
			r.Delay(50 * time.Millisecond)
		}
		began := time.Now()
		c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "brief", "PX", "1")
		c.have("brief", crowd)
		c.row("generator resolves with PX 1, what Redis says is heard 50 ms later", "6 of 6 have the value", time.Since(began), soon)
		for _, r := range s.Relays {
			r.Delay(0)
		}
		c.AwaitLine(t, c.name, 0)
		c.NothingOf(t, c.name, "fence")
	})
}
