package memo

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// cutOff is a stage whose second proxy's own connections a test breaks.
func cutOff(t *testing.T) *stage.Stage {
	return stage.Setup{Proxies: 3, Relayed: true}.Start(t)
}

// ownLinks are the links of that proxy's own connections, when both subscriptions stand; which says which by how many
// channels they are subscribed to: 1 is the inbox, 2 what is published of memo values (and one name is waited
// for), 0 any.
func ownLinks(t *testing.T, s *stage.Stage, proxy, which int) []*harness.Link {
	t.Helper()
	var links []*harness.Link
	var own []stage.Peer
	defer func() {
		if t.Failed() {
			t.Logf("the own connections of proxy %d: %v", proxy, own)
		}
	}()
	stage.Eventually(t, "both subscriptions stand", func() bool {
		links, own = nil, s.Own(t, proxy)
		subscribed := map[string]int{}
		for _, p := range own {
			subscribed[p["sub"]]++
			if which == 0 || p["sub"] == fmt.Sprint(which) {
				links = append(links, s.Relays[proxy].Link(p["addr"]))
			}
		}
		return subscribed["1"]+subscribed["2"] == 2 && (which == 0 || subscribed[fmt.Sprint(which)] == 1) && !slices.Contains(links, nil)
	})
	return links
}

// A proxy's own connections, or one of them, break at each point of a promise's life; the waiters' do not.
func TestSubscriptionsAreCut(t *testing.T) {
	t.Parallel()
	which := map[string]int{"both subscriptions": 0, "the inbox": 1, "the memo subscription": 2}
	for what, channels := range which {
		for _, end := range []string{"resolves", "rejects", "gives up"} {
			t.Run(what+", generator "+end, func(t *testing.T) {
				t.Parallel()
				s := cutOff(t)
				// Between ask and answer, and they come back at once.
				c := begin(t, s)
				for _, l := range ownLinks(t, s, 1, channels) {
					l.Cut()
				}
				c.endsBy(end, what+" cut between ask and answer")

				// They come back after the answer only.
				c = begin(t, s)
				links := ownLinks(t, s, 1, channels)
				s.Relays[1].Refuse(true)
				for _, l := range links {
					l.Cut()
				}
				began := c.answers(end)
				s.Relays[1].Refuse(false)
				c.ended(end, what+" cut between ask and answer, back after it", began)

				// What was to be heard has been sent, and is lost with the connection.
				c = begin(t, s)
				links = ownLinks(t, s, 1, channels)
				for _, l := range links {
					l.LimitDown(0)
				}
				began = c.answers(end)
				for _, l := range links {
					l.Cut()
				}
				c.ended(end, what+" cut just after the answer, before it was heard", began)

				// Nothing is cut, it only hangs.
				c = begin(t, s)
				for _, l := range ownLinks(t, s, 1, channels) {
					l.Stall()
				}
				c.endsBy(end, what+" stalled between ask and answer")
			})
		}
	}
}

// answers is the generator's answer; endsBy checks as well what comes of it.
func (c *scene) answers(end string) (began time.Time) {
	c.t.Helper()
	began = time.Now()
	switch end {
	case "resolves":
		c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "v", "PX", "60000")
	case "rejects":
		c.generator.Expect(int64(1), "KS.REJECT", c.name, c.promise.Token, "no")
	default:
		c.generator.Unlock(c.name, c.promise)
	}
	return began
}

func (c *scene) endsBy(end, failure string) {
	c.t.Helper()
	c.ended(end, failure, c.answers(end))
}

func (c *scene) ended(end, failure string, began time.Time) {
	c.t.Helper()
	const bound = 15 * time.Second // a recheck, and a dead link is noticed after 6 s
	switch end {
	case "resolves":
		c.have("v", crowd)
		c.row(failure+"; generator "+end, "6 of 6 have the value", time.Since(began), bound)
		c.closes("v")
	case "rejects":
		c.told("no", crowd)
		c.row(failure+"; generator "+end, "6 of 6 have the error", time.Since(began), bound)
		c.AwaitLine(c.t, c.name, 0)
	default:
		number, w := c.promoted() // who can't be rung may be passed over
		took := time.Since(began)
		rest := c.resolves(w, crowd-1)
		c.row(failure+"; generator "+end, fmt.Sprintf("waiter %d is promoted, 5 have its value (after %v)", number+1, rest.Round(time.Millisecond)), took, bound)
	}
}

// A proxy that is cut off before anyone asks serves all the same, by timers and on its clients' connections.
func TestSubscriptionsAreGoneBeforeTheAsk(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"resolves", "rejects", "gives up"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			s := cutOff(t)
			callers := []*stage.Client{s.Client(t, 1), s.Client(t, 1)}
			generator := s.Client(t, 1)
			links := ownLinks(t, s, 1, 0)
			s.Relays[1].Refuse(true)
			for _, l := range links {
				l.Cut()
			}
			c := &scene{Stage: s, t: t, name: "cut:" + end, generator: generator}
			c.heal = func() { s.Relays[1].Refuse(false) }
			c.promise = generator.Generate(c.name)
			for _, caller := range callers {
				c.waiters = append(c.waiters, s.JoinBy(caller, "KS.MEMO", c.name))
			}
			for i := range crowd - 2 {
				c.join(i % 2 * 2)
			}
			c.collect(c.waiters...)
			c.endsBy(end, "all own connections of generator's and waiters' proxy gone before the ask, to the end")
		})
	}
}

// The record of a rejection is kept for ten seconds: who is out of reach for longer generates.
func TestARejectionIsMissedByWhoIsOutOfReachForLong(t *testing.T) {
	t.Parallel()
	s := cutOff(t)
	c := open(t, s)
	out := []*stage.Client{s.Client(t, 1), s.Client(t, 1)}
	for i, w := range out {
		w.Expect("OK", "CLIENT", "SETNAME", fmt.Sprintf("out%d", i))
		c.waiters = append(c.waiters, s.JoinBy(w, "KS.MEMO", c.name))
	}
	for i := range crowd - 2 {
		c.join(i % 2 * 2)
	}
	c.collect(c.waiters[2:]...)
	var links []*harness.Link
	for i := range out {
		links = append(links, s.Relays[1].Link(s.Named(t, fmt.Sprintf("out%d", i))["addr"]))
	}
	links = append(links, ownLinks(t, s, 1, 0)...)
	s.Relays[1].Refuse(true)
	for _, l := range links {
		l.Stall()
	}
	began := c.answers("rejects")
	c.told("no", crowd-2)
	c.row("a proxy out of reach for more than 10 s; generator rejects", "the 4 others have the error", time.Since(began), soon)
	stage.Eventually(t, "the record of the rejection is gone", func() bool {
		return s.Must(t, "EXISTS", stage.KeyOf(c.name, "error")) == int64(0)
	})
	began = time.Now()
	s.Relays[1].Refuse(false)
	for _, l := range links {
		l.Resume()
	}
	// Both ask now, in whatever order: one generates, if the message is not heard late from the connection that hung.
	outcomes := stage.Collect(out)
	told, generated := 0, 0
	for range out {
		o := <-outcomes
		if o.Err != nil {
			t.Fatalf("a waiter that was out of reach is not answered: %v", o.Err)
		}
		if g, err := stage.AsGrant(o.Reply); err == nil && generated == 0 {
			generated++
			s.Client(t, 0).Expect(int64(1), "KS.RESOLVE", c.name, g.Token, "v", "PX", "60000")
		} else if o.Reply == stage.Refusal("MEMOERR no") {
			told++
		} else {
			stage.WantValue(t, o.Reply, "v")
		}
	}
	c.row("a proxy out of reach for more than 10 s is back", fmt.Sprintf("%d have the error, %d generate, the others have the value", told, generated), time.Since(began), 15*time.Second)
}

// The generator's connection breaks when Redis has executed the answer and the reply is on its way.
func TestTheGeneratorsLaneBreaksBehindItsAnswer(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Proxies: 3, Relayed: true}.Start(t)
	for _, end := range []string{"resolves", "rejects", "gives up"} { // Redis knows the scripts then
		open(t, s).answers(end)
	}
	for _, end := range []string{"KS.RESOLVE", "KS.REJECT", "KS.UNLOCK"} {
		c := begin(t, s, "EX", "60")
		c.generator.Expect("OK", "CLIENT", "SETNAME", c.name)
		c.generator.Status(c.name) // the proxy knows its new name
		link := s.Relays[0].Link(s.Named(t, c.name)["addr"])
		link.LimitDown(0)
		args := []string{end, c.name, c.promise.Token}
		if end != "KS.UNLOCK" {
			args = append(args, "v")
		}
		c.generator.Ask(args...)
		stage.Eventually(t, "Redis has executed it", func() bool { return s.Owner(t, c.name) != c.promise.Token })
		began := time.Now()
		link.Cut()
		c.generator.AwaitEnd(t)
		outcome := "6 of 6 have the value; 0 when it asks again"
		switch end {
		case "KS.RESOLVE":
			c.have("v", crowd)
		case "KS.REJECT":
			c.told("v", crowd)
			outcome = "6 of 6 have the error; 0 when it asks again"
		default:
			c.resolves(c.first(0), crowd-1)
			outcome = "the first is promoted, 5 have its value; 0 when it asks again"
		}
		took := time.Since(began)
		s.Client(t, 0).Expect(int64(0), args...)
		c.row("generator's connection to Redis breaks behind "+end, outcome, took, 10*time.Second)
	}
}

// A value that is too large for the channel must not cost any proxy its inbox.
func TestAHugeValueLeavesTheInboxesAlive(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Proxies: 3}.Start(t)
	c := open(t, s, "EX", "600")
	for proxy := range s.Proxies {
		c.join(proxy)
	}
	c.awaitSubscribed(3)
	value := strings.Repeat("huge", 34<<20/4)
	began := time.Now()
	c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, value, "PX", "60000")
	for _, w := range c.waiters {
		reply, err := w.ReplyWithin(2 * time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if want := "*2\r\n$5\r\nvalue\r\n" + fmt.Sprintf("$%d\r\n", len(value)) + value + "\r\n"; reply != want {
			t.Fatal("a waiter is answered something else than the value")
		}
	}
	c.row("generator resolves with 34 MB", "3 of 3 have the value, no subscription is cut", time.Since(began), 2*time.Minute)
	if log := s.Log(); strings.Contains(log, "output buffer limits") { // subscriptions may also be dialled anew because all is slow
		t.Errorf("Redis has cut a subscriber off:\n%s", log)
	}
	s.Must(t, "DEL", c.name)
	// Bells ring: a hand-off to each proxy.
	next := begin(t, s)
	next.generator.Unlock(next.name, next.promise)
	next.resolves(next.first(0), crowd-1)
}
