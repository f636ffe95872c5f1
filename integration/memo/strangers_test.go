package memo

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

var strangerScenes = []stage.Scene{
	{Name: "a value is stored and published while one generates", Run: storedAndPublished},
	{Name: "a value is stored while one generates, and nobody is told", Run: storedInSilence},
	{Name: "a value for a millisecond while one generates", Run: storedBriefly},
	{Name: "a value is deleted while one generates", Run: deletedWhileGenerating},
	{Name: "a value is deleted just after the resolve", Run: deletedAfterResolve},
	{Name: "a message without a value", Run: messageOnly},
	{Name: "the lock is deleted", Run: lockDeleted},
	{Name: "the lock is a stranger's", Run: lockTaken},
	{Name: "the line, the places, the fence or the error is deleted", Run: keysDeleted},
	{Name: "everything is deleted", Run: flushed},
	{Name: "a value is stored when nobody asks, and when one is promoted", Run: storedAtOtherTimes},
	{Name: "a generator that a stranger's value overtook may still resolve", Run: resolvesOverStranger},
}

func (c *scene) publish(payload string) {
	c.t.Helper()
	c.Must(c.t, "PUBLISH", stage.KeyOf(c.name, "notif"), payload)
}

// The first in line is one that does not look for values, so those behind it have the value by the message alone: they
// would not ask by themselves so soon.
func storedAndPublished(t *testing.T, s *stage.Stage) {
	for _, value := range []string{"a stranger's", ""} {
		c := open(t, s)
		first := s.Join(t, 0, c.name)
		for i := range crowd {
			c.join((i + 1) % len(s.Proxies))
		}
		c.listen()
		began := time.Now()
		c.Must(t, "SET", c.name, value, "PX", "30000")
		c.publish(value)
		c.have(value, crowd)
		took := time.Since(began)
		first.Silent("the generator goes on")
		c.generator.Unlock(c.name, c.promise)
		first.Granted()
		first.Unlocks()
		c.row(fmt.Sprintf("stranger: SET %q and PUBLISH while one generates", value), "6 of 6 have it; the generator gives up", took, soon)
		c.closes(value)
	}
}

func resolvesOverStranger(t *testing.T, s *stage.Stage) {
	c := begin(t, s)
	c.Must(t, "SET", c.name, "a stranger's")
	c.publish("a stranger's")
	c.have("a stranger's", crowd)
	began := time.Now()
	c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "the generator's", "PX", "30000")
	c.row("stranger: SET and PUBLISH while one generates, who resolves then", "1: the promise stood; its value replaces the stranger's", time.Since(began), soon)
	c.closes("the generator's")
}

// Without a message the value is found when a waiter asks by itself, or when the generator is done.
func storedInSilence(t *testing.T, s *stage.Stage) {
	c := begin(t, s)
	began := time.Now()
	c.Must(t, "SET", c.name, "a stranger's", "PX", "60000")
	c.have("a stranger's", crowd)
	took := time.Since(began)
	c.generator.Unlock(c.name, c.promise)
	c.row("stranger: SET without PUBLISH while one generates", "6 of 6 find it when they ask by themselves", took, 10*time.Second)
	c.closes("a stranger's")

	c = begin(t, s)
	c.Must(t, "SET", c.name, "a stranger's", "PX", "60000")
	began = time.Now()
	c.generator.Unlock(c.name, c.promise)
	c.have("a stranger's", crowd)
	c.row("stranger: SET without PUBLISH, then the generator gives up", "6 of 6 have it, nobody is promoted", time.Since(began), 10*time.Second)
	c.closes("a stranger's")
}

// Nobody may see a value that lived for a millisecond; then the generator goes on for all.
func storedBriefly(t *testing.T, s *stage.Stage) {
	c := begin(t, s)
	c.Must(t, "SET", c.name, "brief", "PX", "1")
	c.publish("brief")
	stage.Eventually(t, "it is gone", func() bool { return s.Must(t, "EXISTS", c.name) == int64(0) })
	began := time.Now()
	c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "the generator's", "PX", "30000")
	heard := 0
	for range crowd {
		pair, _ := c.next().Reply.([]any)
		switch fmt.Sprint(pair) {
		case "[value brief]":
			heard++
		case "[value the generator's]":
		default:
			t.Fatalf("a waiter was answered %q", pair)
		}
	}
	c.row("stranger: SET PX 1 and PUBLISH while one generates, who resolves then", fmt.Sprintf("6 of 6 have a value (%d the stranger's)", heard), time.Since(began), soon)
	c.closes("the generator's")

	// Our own resolve for a millisecond reaches all.
	c = begin(t, s)
	began = time.Now()
	c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "brief", "PX", "1")
	c.have("brief", crowd)
	c.row("generator resolves with PX 1", "6 of 6 have the value", time.Since(began), soon)
	c.AwaitLine(t, c.name, 0)
	c.NothingOf(t, c.name, "fence")
}

func deletedWhileGenerating(t *testing.T, s *stage.Stage) {
	c := begin(t, s)
	c.Must(t, "SET", c.name, "a stranger's")
	c.Must(t, "DEL", c.name)
	c.publish("a stranger's")
	began := time.Now()
	c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "the generator's", "PX", "30000")
	heard := 0
	for range crowd {
		pair, _ := c.next().Reply.([]any)
		switch fmt.Sprint(pair) {
		case "[value a stranger's]":
			heard++
		case "[value the generator's]":
		default:
			t.Fatalf("a waiter was answered %q", pair)
		}
	}
	c.row("stranger: SET, DEL and PUBLISH while one generates, who resolves then", fmt.Sprintf("6 of 6 have a value (%d the stranger's)", heard), time.Since(began), soon)
	c.closes("the generator's")
}

// Who finds nothing when it looks may be served what was published, or one of them generates anew.
func deletedAfterResolve(t *testing.T, s *stage.Stage) {
	c := begin(t, s)
	began := time.Now()
	c.generator.Send(t, harness.Command("KS.RESOLVE", c.name, c.promise.Token, "deleted", "PX", "30000")+harness.Command("DEL", c.name))
	c.generator.Want(t, ":1\r\n")
	c.generator.Want(t, ":1\r\n")
	had, promotions := c.servedOrPromoted("deleted")
	c.row("stranger: DEL just behind KS.RESOLVE", fmt.Sprintf("%d have the value, %d generated, one at a time", had, promotions), time.Since(began), 2*soon)
	c.Must(t, "DEL", c.name)
	c.NothingOf(t, c.name, "fence")
}

// servedOrPromoted looks at the answers to all: a value that is gone, or the promise; who has that keeps it, and
// then all the others have its value.
func (c *scene) servedOrPromoted(gone string) (had, promotions int) {
	c.t.Helper()
	for had+promotions < len(c.waiters) {
		o := c.next()
		g, err := stage.AsGrant(o.Reply)
		switch pair, _ := o.Reply.([]any); {
		case err == nil:
			promotions++
			if promotions > 1 {
				c.t.Fatalf("%s: two generate", c.name)
			}
			o.Expect(int64(1), "KS.RESOLVE", c.name, g.Token, "anew", "PX", "30000")
		case fmt.Sprint(pair) == "[value "+gone+"]", promotions > 0 && fmt.Sprint(pair) == "[value anew]":
			had++
		default:
			c.t.Fatalf("%s: a waiter was answered %#v", c.name, o.Reply)
		}
	}
	return had, promotions
}

func messageOnly(t *testing.T, s *stage.Stage) {
	c := begin(t, s)
	for range 10 {
		c.publish("there is no such value")
	}
	c.AwaitLine(t, c.name, crowd)
	began := time.Now()
	c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "v", "PX", "30000")
	c.have("v", crowd)
	c.row("stranger: PUBLISH without a value, ten times", "nobody is woken by it; 6 of 6 have the generator's", time.Since(began), soon)
	c.closes("v")
}

func lockDeleted(t *testing.T, s *stage.Stage) {
	c := begin(t, s)
	began := time.Now()
	c.Must(t, "DEL", stage.KeyOf(c.name, "lock"))
	w := c.first(0)
	took := time.Since(began)
	c.generator.Expect(int64(0), "KS.RESOLVE", c.name, c.promise.Token, "of one who lost it")
	c.stored(nil)
	c.resolves(w, crowd-1)
	c.row("stranger: DEL of the lock while one generates", "the first is promoted when it asks by itself, 5 have its value; 0 for the old one", took, 10*time.Second)

	c = begin(t, s, "SESSION")
	c.Must(t, "DEL", stage.KeyOf(c.name, "lock"))
	began = time.Now()
	w = c.first(0)
	took = time.Since(began)
	c.resolves(w, crowd-1)
	c.row("stranger: DEL of the lock of a SESSION promise", "the first is promoted, 5 have its value", took, 10*time.Second)
}

func lockTaken(t *testing.T, s *stage.Stage) {
	c := begin(t, s)
	c.Must(t, "SET", stage.KeyOf(c.name, "lock"), "a stranger", "PX", "700")
	c.generator.Expect(int64(0), "KS.RESOLVE", c.name, c.promise.Token, "of one who lost it")
	began := time.Now()
	w := c.first(0)
	took := time.Since(began)
	c.resolves(w, crowd-1)
	c.row("stranger: SET of the lock with PX 700 while one generates", "the first is promoted when that has run out, 5 have its value", took, 10*time.Second)

	c = begin(t, s)
	c.Must(t, "SET", stage.KeyOf(c.name, "lock"), "a stranger")
	c.generator.Expect(int64(0), "KS.RESOLVE", c.name, c.promise.Token, "of one who lost it")
	began = time.Now()
	c.Must(t, "SET", c.name, "the stranger's", "PX", "30000")
	c.publish("the stranger's")
	c.have("the stranger's", crowd)
	took = time.Since(began)
	c.row("stranger: SET of the lock without TTL, then SET and PUBLISH", "6 of 6 have the value", took, soon)
	c.Must(t, "DEL", stage.KeyOf(c.name, "lock"))
	c.closes("the stranger's")
}

func keysDeleted(t *testing.T, s *stage.Stage) {
	for _, what := range []string{"lockwaiting", "lockwaitingset", "fence", "error"} {
		for how, end := range map[string]func(*scene) int{
			"resolves": func(c *scene) int {
				c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "v", "PX", "60000")
				c.have("v", crowd)
				return 0
			},
			"gives up": func(c *scene) int {
				c.generator.Unlock(c.name, c.promise)
				_, w := c.promoted() // there is no order any more
				w.Expect(int64(1), "KS.RESOLVE", c.name, w.Token, "v", "PX", "60000")
				c.have("v", crowd-1)
				return 1
			},
		} {
			c := begin(t, s)
			c.Must(t, "DEL", stage.KeyOf(c.name, what))
			began := time.Now()
			promotions := end(c)
			c.row(fmt.Sprintf("stranger: DEL of the key for %s, then the generator %s", what, how), fmt.Sprintf("%d promoted, all others have the value", promotions), time.Since(began), 20*time.Second)
			c.closes("v")
		}
	}
}

// As FLUSHALL, but on what is this name's.
func flushed(t *testing.T, s *stage.Stage) {
	c := begin(t, s)
	keys := []string{"DEL", c.name}
	for _, what := range []string{"lock", "lockwaiting", "lockwaitingset", "fence", "error"} {
		keys = append(keys, stage.KeyOf(c.name, what))
	}
	began := time.Now()
	c.Must(t, keys...)
	_, w := c.promoted()
	took := time.Since(began)
	c.generator.Expect(int64(0), "KS.RESOLVE", c.name, c.promise.Token, "of one who lost it")
	c.resolves(w, crowd-1)
	c.row("stranger: DEL of all keys of the name while one generates", "one is promoted, 5 have its value; 0 for the old one", took, 10*time.Second)
}

func storedAtOtherTimes(t *testing.T, s *stage.Stage) {
	c := &scene{Stage: s, t: t, name: "otherwise:stored"}
	c.Must(t, "SET", c.name, "a stranger's", "PX", "30000")
	began := time.Now()
	c.closes("a stranger's")
	c.row("stranger: SET before anyone asks", "a hit everywhere", time.Since(began), soon)

	c = begin(t, s)
	c.generator.Unlock(c.name, c.promise)
	w := c.first(0)
	c.Must(t, "SET", c.name, "a stranger's", "PX", "30000")
	c.publish("a stranger's")
	began = time.Now()
	c.have("a stranger's", crowd-1)
	took := time.Since(began)
	w.Expect(int64(1), "KS.RESOLVE", c.name, w.Token, "the successor's", "PX", "30000")
	c.row("stranger: SET and PUBLISH while a promoted waiter generates", "the 5 others have it; the promise stands", took, soon)
	c.closes("the successor's")
}

func isValue(reply any, value string) bool {
	pair, ok := reply.([]any)
	return ok && slices.Equal(pair, []any{"value", value})
}

// A stranger's value comes between the GET that missed and the ask, or between hand-off and claim.
func TestAStrangersValueComesInBetween(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Proxies: 3, Relayed: true}.Start(t)
	c := &scene{Stage: s, t: t, name: "between:get"}
	caller := s.Client(t, 1)
	caller.Expect("OK", "CLIENT", "SETNAME", "between")
	caller.Unlock("between:0", caller.Lock("between:0")) // the proxy knows all that it needs to know of it
	link := s.Relays[1].Link(s.Named(t, "between")["addr"])
	link.LimitDown(0)
	caller.Ask("KS.MEMO", c.name)
	stage.Eventually(t, "the GET has missed", func() bool { return s.Named(t, "between")["cmd"] == "get" })
	s.Must(t, "SET", c.name, "a stranger's", "PX", "30000")
	began := time.Now()
	link.Resume()
	stage.WantValue(t, caller.Next(), "a stranger's")
	c.row("stranger: SET between the miss and the ask", "the value, no promise", time.Since(began), soon)
	c.closes("a stranger's")

	for _, px := range []string{"30000", "1"} {
		c = open(t, s)
		first := s.Client(t, 1)
		first.Expect("OK", "CLIENT", "SETNAME", c.name)
		c.waiters = append(c.waiters, s.JoinBy(first, "KS.MEMO", c.name))
		for i := range crowd - 1 {
			c.join((i + 1) % len(s.Proxies))
		}
		c.listen()
		link = s.Relays[1].Link(s.Named(t, c.name)["addr"])
		link.LimitUp(0)
		c.generator.Unlock(c.name, c.promise)
		stage.Eventually(t, "the claim is held up", func() bool { return link.Held() > 0 })
		s.Must(t, "SET", c.name, "a stranger's", "PX", px)
		if px == "1" {
			stage.Eventually(t, "it is gone", func() bool { return s.Must(t, "EXISTS", c.name) == int64(0) })
		}
		began = time.Now()
		link.Resume()
		if px == "1" {
			saw, o := 0, c.next()
			for isValue(o.Reply, "a stranger's") { // who asked while it was there
				saw, o = saw+1, c.next()
			}
			i, first := c.promotion(o)
			if i != 0 {
				t.Fatalf("waiter %d was promoted", i)
			}
			c.resolves(first, crowd-1-saw)
			c.row("stranger: SET PX 1 between hand-off and claim", fmt.Sprintf("the first is promoted, %d have its value", crowd-1-saw), time.Since(began), soon)
			continue
		}
		c.have("a stranger's", crowd)
		c.row("stranger: SET between hand-off and claim", "6 of 6 have it, the promise is given back", time.Since(began), 2*soon)
		c.closes("a stranger's")
	}
}
