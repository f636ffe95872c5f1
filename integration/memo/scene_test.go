package memo

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// scene is one name that somebody generates while others wait for it.
type scene struct {
	*stage.Stage
	t         *testing.T
	name      string
	generator *stage.Client // on proxy 0
	promise   stage.Grant
	waiters   []*stage.Waiter // in line, in this order
	outcomes  <-chan stage.Outcome
	heal      func()   // ends what was broken, once all are answered; optional
	old       []string // tokens of promises that were revoked
}

// crowd is how many wait: two on each of three proxies.
const crowd = 6

var scenes atomic.Int64

// open gets the promise of a new name on proxy 0.
func open(t *testing.T, s *stage.Stage, options ...string) *scene {
	t.Helper()
	c := &scene{Stage: s, t: t, name: fmt.Sprintf("scene%d:v", scenes.Add(1)), generator: s.Client(t, 0)}
	c.promise = c.generator.Generate(c.name, options...)
	return c
}

// begin is open with a crowd that waits, the first of them on the second proxy.
func begin(t *testing.T, s *stage.Stage, options ...string) *scene {
	t.Helper()
	c := open(t, s, options...)
	for i := range crowd {
		c.join((i + 1) % len(s.Proxies))
	}
	c.listen()
	return c
}

// join adds a waiter.
func (c *scene) join(proxy int, options ...string) *stage.Waiter {
	c.t.Helper()
	w := c.JoinMemo(c.t, proxy, c.name, options...)
	c.waiters = append(c.waiters, w)
	return w
}

// listen waits until all proxies with waiters are subscribed, and starts to collect what the waiters are answered.
func (c *scene) listen() {
	c.t.Helper()
	proxies := map[int]bool{}
	for i := range c.waiters {
		proxies[i%len(c.Proxies)] = true
	}
	c.awaitSubscribed(len(proxies))
	c.collect(c.waiters...)
}

func (c *scene) collect(waiters ...*stage.Waiter) {
	clients := make([]*stage.Client, len(waiters))
	for i, w := range waiters {
		clients[i] = w.Client
	}
	c.outcomes = stage.Collect(clients)
}

// awaitSubscribed waits until n proxies listen to the channel of the name.
func (c *scene) awaitSubscribed(n int) {
	c.t.Helper()
	channel := stage.KeyOf(c.name, "notif")
	stage.Eventually(c.t, fmt.Sprintf("%d proxies listen to %s", n, channel), func() bool {
		return c.Must(c.t, "PUBSUB", "NUMSUB", channel).([]any)[1] == int64(n)
	})
}

// lapses makes the promise's lease end soon, now that everyone stands in line, and returns when.
func (c *scene) lapses() (ends time.Time) {
	c.t.Helper()
	c.Client(c.t, len(c.Proxies)-1).Expect(int64(1), "KS.EXTEND", c.name, c.promise.Token, "PX", "200")
	return time.Now().Add(200 * time.Millisecond) // or a little earlier
}

// next is the next answer to anyone who waits. That there is one means that nobody hangs.
func (c *scene) next() stage.Outcome {
	c.t.Helper()
	o := <-c.outcomes
	if o.Err != nil {
		c.t.Fatalf("%s: a waiter is not answered: %v", c.name, o.Err)
	}
	return o
}

// who is the waiter of an answer, and its number in line.
func (c *scene) who(o stage.Outcome) (int, *stage.Waiter) {
	c.t.Helper()
	for i, w := range c.waiters {
		if w.Client == o.Client {
			return i, w
		}
	}
	c.t.Fatal("somebody was answered who does not wait")
	return 0, nil
}

// promoted waits for an answer, which must be the promise.
func (c *scene) promoted() (int, *stage.Waiter) {
	c.t.Helper()
	return c.promotion(c.next())
}

// promotion checks that an answer is the promise, and says whose.
func (c *scene) promotion(o stage.Outcome) (int, *stage.Waiter) {
	c.t.Helper()
	i, w := c.who(o)
	g, err := stage.AsGrant(o.Reply)
	if err != nil {
		c.t.Fatalf("%s: waiter %d: %v", c.name, i, err)
	}
	if g.Token == c.promise.Token || g.Token != w.Token {
		c.t.Fatalf("%s: waiter %d has the promise %s, waited under %s, the first promise was %s", c.name, i, g.Token, w.Token, c.promise.Token)
	}
	return i, w
}

// first is promoted for the case that the line's order holds: it must be the waiter of that number.
func (c *scene) first(number int) *stage.Waiter {
	c.t.Helper()
	i, w := c.promoted()
	if i != number {
		c.t.Fatalf("%s: waiter %d was promoted, the first was %d", c.name, i, number)
	}
	return w
}

// have waits until the n next answers are there, all of them this value.
func (c *scene) have(value string, n int) {
	c.t.Helper()
	for range n {
		stage.WantValue(c.t, c.next().Reply, value)
	}
}

// told is have for the message of a rejection.
func (c *scene) told(message string, n int) {
	c.t.Helper()
	for range n {
		if got := c.next().Reply; got != stage.Refusal("MEMOERR "+message) {
			c.t.Fatalf("%s: a waiter was answered %#v", c.name, got)
		}
	}
}

// resolves has a promoted waiter keep its promise, and checks that all others, n, have its value: one
// generated, and one only.
func (c *scene) resolves(w *stage.Waiter, n int) time.Duration {
	c.t.Helper()
	const value = "the successor's"
	if early := len(c.outcomes); early > 0 {
		c.t.Fatalf("%s: %d more were answered while one generates", c.name, early)
	}
	began := time.Now()
	w.Expect(int64(1), "KS.RESOLVE", c.name, w.Token, value, "PX", "30000")
	c.have(value, n)
	took := time.Since(began)
	c.closes(value)
	return took
}

// closes checks that the value is there for everyone and that nothing else is left.
func (c *scene) closes(value string) {
	c.t.Helper()
	if c.heal != nil {
		c.heal()
	}
	for proxy, p := range c.Proxies {
		if p.Running() {
			stage.WantValue(c.t, c.Client(c.t, proxy).Call("KS.MEMO", c.name, "NOWAIT"), value)
		}
	}
	c.AwaitLine(c.t, c.name, 0)
	c.AwaitFree(c.t, c.name)
	c.Must(c.t, "DEL", c.name)
	c.NothingOf(c.t, c.name, "fence")
}

// stored fails the test if the value is not this one; nil: if there is one.
func (c *scene) stored(value any) {
	c.t.Helper()
	if got := c.Must(c.t, "GET", c.name); got != value {
		c.t.Fatalf("%s: the value is %#v, want %#v", c.name, got, value)
	}
}

// row logs a line of the table of failures: what failed and when, who was answered what, how fast. It fails
// the test at a bound that even a busy machine keeps.
func (c *scene) row(failure, outcome string, took, bound time.Duration) {
	c.t.Helper()
	c.t.Logf("memo | %d | %s | %s | %v", len(c.Proxies), failure, outcome, took.Round(100*time.Microsecond))
	if harness.Late(took, bound) {
		c.t.Errorf("%s: %v, want less than %v even here", failure, took, bound)
	}
}

// soon is for what happens at once: what a busy machine may make of it.
const soon = 3 * time.Second

// together are the scenes that break nothing but their own name.
var together = slices.Concat(callerScenes, generatorScenes, waiterScenes, strangerScenes, storyScenes, forgetScenes, staleScenes, contractScenes)

// What is promised does not depend on how many proxies there are: both play the same scenes.
func TestOnOneProxy(t *testing.T)     { stage.Setup{Proxies: 1}.Play(t, together) }
func TestOnThreeProxies(t *testing.T) { stage.Setup{Proxies: 3}.Play(t, together) }

// sinceOrZero is how long ago something was, 0 if it is still to come.
func sinceOrZero(at time.Time) time.Duration { return max(0, time.Since(at)) }
