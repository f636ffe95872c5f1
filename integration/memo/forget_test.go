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

// The source changes, KS.FORGET, and only then comes the answer of who computed from the old source: whatever
// happens in between, it must change nothing.
var forgetScenes = []stage.Scene{
	{Name: "an answer after FORGET, nothing else happened", Run: late(func(c *scene) {
		c.forget(1)
	}, func(c *scene) { c.unpromised() })},
	{Name: "an answer after FORGET, FORGET again", Run: late(func(c *scene) {
		c.forget(1)
		c.forget(0)
	}, func(c *scene) { c.unpromised() })},
	{Name: "an answer after FORGET, a waiter generates", Run: late(func(c *scene) {
		c.crowds()
		c.forget(1)
		c.first(0)
	}, func(c *scene) { c.resolves(c.waiters[0], crowd-1) })},
	{Name: "an answer after FORGET, a waiter generates, and FORGET again", Run: late(func(c *scene) {
		c.crowds()
		c.forget(1)
		c.old = append(c.old, c.first(0).Token)
		c.forget(1)
		c.first(1)
	}, func(c *scene) { c.resolves(c.waiters[1], crowd-2) })},
	{Name: "an answer after FORGET, a waiter has resolved", Run: late(func(c *scene) {
		c.crowds()
		c.forget(1)
		w := c.first(0)
		w.Expect(int64(1), "KS.RESOLVE", c.name, w.Token, "new", "PX", "60000")
		c.have("new", crowd-1)
	}, func(c *scene) { c.closes("new") })},
	{Name: "an answer after FORGET, another generates", Run: late(func(c *scene) {
		c.forget(1)
		c.anew()
	}, func(c *scene) {
		c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "new", "PX", "60000")
		c.closes("new")
	})},
	{Name: "an answer after FORGET, another has resolved", Run: late(func(c *scene) {
		c.forget(1)
		c.anew()
		c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "new", "PX", "60000")
	}, func(c *scene) { c.closes("new") })},
	{Name: "an answer after FORGET, another's value is gone again", Run: late(func(c *scene) {
		c.forget(1)
		c.anew()
		c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "new", "PX", "60000")
		c.generator.Expect(int64(1), "DEL", c.name)
	}, func(c *scene) { c.unpromised() })},
	{Name: "an answer after FORGET, another has rejected for a while", Run: late(func(c *scene) {
		c.forget(1)
		c.anew()
		c.generator.Expect(int64(1), "KS.REJECT", c.name, c.promise.Token, "not today", "PX", "60000")
	}, func(c *scene) {
		for proxy := range c.Proxies {
			c.Client(c.t, proxy).ExpectRefusal("MEMOERR not today", "KS.MEMO", c.name)
		}
		c.forget(1)
		c.unpromised()
	})},
	{Name: "an answer after FORGET, another's lease has run out", Run: late(func(c *scene) {
		c.forget(1)
		c.anew("PX", "1")
		c.AwaitFree(c.t, c.name)
	}, func(c *scene) { c.unpromised() })},
	{Name: "an answer after FORGET, KS.LOCK holds", Run: late(func(c *scene) {
		c.forget(1)
		c.promise = c.generator.Lock(c.name, "EX", "60")
	}, func(c *scene) {
		c.generator.Unlock(c.name, c.promise)
		c.unpromised()
	})},
	{Name: "an answer after FORGET, a redis-memolock process generates", Run: late(func(c *scene) {
		c.forget(1)
		c.Must(c.t, "SET", stage.KeyOf(c.name, "lock"), "theirs", "NX", "PX", "60000")
	}, func(c *scene) {
		c.Must(c.t, "DEL", stage.KeyOf(c.name, "lock"))
		c.unpromised()
	})},
	{Name: "an answer after FORGET, there was a stale value", Run: late(func(c *scene) {
		c.forget(1)
		c.unpromised() // there was one until then
	}, func(c *scene) { c.unpromised() }, "stale")},
	{Name: "an answer after FORGET, there was a stale value, and another has resolved", Run: late(func(c *scene) {
		c.forget(1)
		c.anew()
		c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "new", "PX", "60000")
	}, func(c *scene) { c.closes("new") }, "stale")},
}

// late is a scene in which old promises are answered after something has happened, over each proxy and in each way.
// then checks that all is as it was before they were.
func late(happens, then func(*scene), was ...string) func(*testing.T, *stage.Stage) {
	return func(t *testing.T, s *stage.Stage) {
		for _, lease := range [][]string{{"EX", "60"}, {"SESSION"}} {
			c := &scene{Stage: s, t: t, name: fmt.Sprintf("forget%d:v", scenes.Add(1)), generator: s.Client(t, 0)}
			if len(was) > 0 {
				c.past("old and stale")
			}
			generator := c.generator
			c.promise = generator.Generate(c.name, lease...)
			c.old = []string{c.promise.Token}
			happens(c)
			before := c.dump()
			clients := []*stage.Client{generator}
			for proxy := range s.Proxies {
				clients = append(clients, s.Client(t, proxy))
			}
			began := time.Now()
			for _, client := range clients {
				for _, token := range c.old {
					for _, answer := range [][]string{
						{"KS.RESOLVE", c.name, token, "old"},
						{"KS.RESOLVE", c.name, token, "old", "PX", "60000", "STALE", "60000"},
						{"KS.REJECT", c.name, token, "old", "PX", "60000"},
						{"KS.EXTEND", c.name, token, "EX", "60"},
						{"KS.UNLOCK", c.name, token},
					} {
						client.Expect(int64(0), answer...)
					}
				}
			}
			took := time.Since(began)
			if after := c.dump(); after != before {
				t.Errorf("late answers have changed Redis from\n%s\nto\n%s", before, after)
			}
			c.row(fmt.Sprintf("%s: KS.FORGET, and then the late answers of %v", t.Name()[strings.LastIndex(t.Name(), "/")+1:], lease), "0 for each, and nothing has changed", took, 5*soon)
			then(c)
		}
	}
}

// dump is what Redis holds of the name.
func (c *scene) dump() string {
	c.t.Helper()
	tag, _, _ := strings.Cut(c.name, ":")
	return c.DumpOf(c.t, tag+"[:/]*", "")
}

// forget has the last proxy forget the name.
func (c *scene) forget(answer int64) {
	c.t.Helper()
	c.Client(c.t, len(c.Proxies)-1).Expect(answer, "KS.FORGET", c.name)
}

// anew has the generator's part taken by another, on the last proxy.
func (c *scene) anew(options ...string) {
	c.t.Helper()
	c.generator = c.Client(c.t, len(c.Proxies)-1)
	c.promise = c.generator.Generate(c.name, options...)
}

// crowds is the crowd of begin.
func (c *scene) crowds() {
	c.t.Helper()
	for i := range crowd {
		c.join((i + 1) % len(c.Proxies))
	}
	c.listen()
}

// unpromised checks that nothing is served, and that whoever asks generates.
func (c *scene) unpromised() {
	c.t.Helper()
	c.stored(nil)
	for proxy := range c.Proxies {
		client := c.Client(c.t, proxy)
		g := client.Generate(c.name)
		client.Expect(nil, "KS.MEMO", c.name, "NOWAIT") // nothing stale
		client.Unlock(c.name, g)
	}
	c.NothingOf(c.t, c.name, "fence")
}

// The answer is on its way from the generator's proxy to Redis when KS.FORGET comes.
func TestAnAnswerThatIsOvertakenByForget(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Proxies: 3, Relayed: true}.Start(t)
	warm := open(t, s)
	warm.generator.Expect(int64(1), "KS.RESOLVE", warm.name, warm.promise.Token, "Redis knows the script then", "PX", "1")
	for _, by := range []int{0, 2} { // over the generator's proxy, too
		for _, answer := range []string{"KS.RESOLVE", "KS.REJECT"} {
			for meanwhile, then := range map[string]func(*scene) (value any){
				"nobody comes": func(*scene) any { return nil },
				"a waiter is promoted": func(c *scene) any {
					c.first(0)
					return nil
				},
				"a waiter is promoted and has resolved": func(c *scene) any {
					w := c.first(0)
					w.Expect(int64(1), "KS.RESOLVE", c.name, w.Token, "new", "PX", "60000")
					c.have("new", crowd-1)
					return "new"
				},
			} {
				c := open(t, s, "EX", "60")
				if meanwhile != "nobody comes" {
					c.crowds()
				}
				link := c.laneOf(c.generator, 0)
				link.LimitUp(0)
				c.generator.Ask(answer, c.name, c.promise.Token, "old", "PX", "60000")
				stage.Eventually(t, "the answer is held up", func() bool { return link.Held() > 0 })
				s.Client(t, by).Expect(int64(1), "KS.FORGET", c.name)
				value := then(c)
				began := time.Now()
				link.Resume()
				if got := c.generator.Next(); got != int64(0) {
					t.Fatalf("%s: %s: the late answer is answered %#v", answer, meanwhile, got)
				}
				took := time.Since(began)
				c.stored(value)
				switch meanwhile {
				case "nobody comes":
					c.unpromised()
				case "a waiter is promoted":
					c.resolves(c.waiters[0], crowd-1)
				default:
					c.closes("new")
				}
				c.row(fmt.Sprintf("%s is on its way when the name is forgotten by proxy %d; %s", answer, by, meanwhile), "0, nothing stored, nobody told", took, 2*soon)
			}
		}
	}
}

// laneOf is the link of a client's connection.
func (c *scene) laneOf(client *stage.Client, proxy int) *harness.Link {
	c.t.Helper()
	client.Expect("OK", "CLIENT", "SETNAME", c.name)
	client.Status(c.name) // the proxy knows its new name
	return c.Relays[proxy].Link(c.Named(c.t, c.name)["addr"])
}

// The generator's proxy is frozen with the answer before it, on a lease and through another's whole generation.
func TestAnAnswerIsReadByAProxyThatWasFrozenMeanwhile(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Proxies: 3}.Start(t)
	for _, answer := range []string{"KS.RESOLVE", "KS.REJECT"} {
		c := open(t, s, "EX", "60")
		w := s.JoinMemo(t, 1, c.name)
		thaw := s.FreezeProxy(t, 0)
		c.generator.Ask(answer, c.name, c.promise.Token, "old", "PX", "60000")
		c.forget(1)
		w.Granted()
		w.Expect(int64(1), "KS.RESOLVE", c.name, w.Token, "new", "PX", "60000")
		thaw()
		if got := c.generator.Next(); got != int64(0) {
			t.Fatalf("%s over a proxy that was frozen is answered %#v", answer, got)
		}
		c.stored("new")
		c.closes("new")
	}
}

// Redis has stored the value and KS.FORGET has removed it, but the generator's proxy has not got the reply yet.
func TestAResolveThatForgetFollowsAtOnce(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Proxies: 3, Relayed: true}.Start(t)
	warm := open(t, s)
	warm.generator.Expect(int64(1), "KS.RESOLVE", warm.name, warm.promise.Token, "Redis knows the script then", "PX", "1")
	for _, ttl := range []string{"500", "60000"} { // the former's value is in the bells
		c := open(t, s, "EX", "60")
		before := s.JoinMemo(t, 0, c.name)
		link := c.laneOf(c.generator, 0)
		link.LimitDown(0)
		c.generator.Ask("KS.RESOLVE", c.name, c.promise.Token, "old", "PX", ttl, "STALE", "60000")
		stage.Eventually(t, "Redis has stored it", func() bool { return s.Owner(t, c.name) == "" })
		s.Client(t, 2).Expect(int64(1), "KS.FORGET", c.name)
		resolver := c.generator
		c.anew() // proxy 2
		w := &stage.Waiter{Client: s.Client(t, 0), Name: c.name, Token: "asked after"}
		w.Ask("KS.MEMO", c.name, "TOKEN", w.Token)
		inLine := func() bool { return slices.Contains(s.Line(t, c.name), w.Token) }
		stage.Eventually(t, "who asked after KS.FORGET stands in line", inLine)
		link.Resume()
		if got := resolver.Next(); got != int64(1) {
			t.Fatalf("KS.RESOLVE answers %#v", got)
		}
		stage.Eventually(t, "who asked after KS.FORGET stands in line still", inLine)
		w.Silent("the value is forgotten, and another generates")
		c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "new", "PX", "60000")
		stage.WantValue(t, w.Next(), "new")
		// Who asked before may have either.
		if got := fmt.Sprint(before.Next()); got != "[value old]" && got != "[value new]" {
			t.Errorf("who asked before is answered %s", got)
		}
		c.closes("new")
	}
}

// What an answer told other proxies is heard there after KS.FORGET: it is not for who asked after that.
func TestNewsOfAnAnswerAreHeardAfterForget(t *testing.T) {
	t.Parallel()
	const inbox, notif = 1, 2
	for _, c := range []struct {
		name     string
		channels int
		answer   []string // behind name and token
	}{
		{"a brief value on the inbox", inbox, []string{"KS.RESOLVE", "old", "PX", "500"}},
		{"a value on the inbox", inbox, []string{"KS.RESOLVE", "old", "PX", "60000"}},
		{"a brief value on its channel", notif, []string{"KS.RESOLVE", "old", "PX", "500"}},
		{"a value on its channel", notif, []string{"KS.RESOLVE", "old", "PX", "60000"}},
		{"a rejection on the inbox", inbox, []string{"KS.REJECT", "old", "PX", "60000"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := cutOff(t)
			newsAfterForget(t, s, c.channels, c.answer)
		})
	}
}

func newsAfterForget(t *testing.T, s *stage.Stage, channels int, answer []string) {
	c := open(t, s, "EX", "60")
	before := s.JoinMemo(t, 1, c.name)
	c.awaitSubscribed(1)
	links := ownLinks(t, s, 1, channels)
	for _, l := range links {
		l.LimitDown(0)
	}
	c.generator.Expect(int64(1), slices.Concat([]string{answer[0], c.name, c.promise.Token}, answer[1:])...)
	c.forget(1)
	c.anew()
	after := &stage.Waiter{Client: s.Client(t, 1), Name: c.name, Token: "asked after"}
	after.Ask("KS.MEMO", c.name, "TOKEN", after.Token)
	stage.Eventually(t, "who asked after KS.FORGET stands in line", func() bool {
		return slices.Contains(s.Line(t, c.name), after.Token)
	})
	for _, l := range links {
		l.Resume()
	}
	handed := s.Client(t, 0) // what comes behind on the inbox is heard: so was the news
	g := handed.Lock(c.name + "'s")
	w := s.Join(t, 1, c.name+"'s")
	handed.Unlock(c.name+"'s", g)
	w.Granted()
	w.Unlocks()
	after.Silent("the answer is forgotten, and another generates")
	c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "new", "PX", "60000")
	stage.WantValue(t, after.Next(), "new")
	// Who asked before may have either.
	if got := fmt.Sprint(before.Next()); got != "[value old]" && got != "MEMOERR old" && got != "[value new]" {
		t.Errorf("who asked before is answered %s", got)
	}
	c.closes("new")
}

// A promise that was handed over and is not claimed yet is of after KS.FORGET: it stands.
func TestForgetBetweenHandOffAndClaim(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Proxies: 3, Relayed: true}.Start(t)
	for first, begins := range map[string]func(*scene){
		"forgotten": func(c *scene) { c.forget(1) },
		"given up":  func(c *scene) { c.generator.Unlock(c.name, c.promise) },
	} {
		c := open(t, s, "EX", "60")
		client := s.Client(t, 1)
		link := c.laneOf(client, 1)
		c.waiters = []*stage.Waiter{s.JoinBy(client, "KS.MEMO", c.name)}
		c.join(2)
		c.collect(c.waiters...)
		link.LimitUp(0)
		begins(c)
		stage.Eventually(t, "the claim is held up", func() bool { return link.Held() > 0 })
		began := time.Now()
		c.forget(0)
		for proxy := range s.Proxies {
			s.Client(t, proxy).Expect(int64(0), "KS.RESOLVE", c.name, c.promise.Token, "old")
		}
		link.Resume()
		_, w := c.promoted() // the second, where the claim took too long here
		took := time.Since(began)
		c.stored(nil)
		c.resolves(w, 1)
		c.row("a promise that is "+first+" and handed over, and forgotten again before it is claimed", "0 and 0: it stands, and the old one's value is refused", took, 2*soon)
	}
}

// A generator whose promise was forgotten asks again with its TOKEN, and stands in line: what it made before is not
// stored while the promise is on its way to it.
func TestALateAnswerWithATokenThatIsPromisedAgain(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Proxies: 3, Relayed: true}.Start(t)
	for _, answer := range []string{"KS.RESOLVE", "KS.REJECT"} {
		c := open(t, s, "EX", "60", "TOKEN", "asks again")
		c.forget(1)
		c.anew()
		client := s.Client(t, 1)
		link := c.laneOf(client, 1)
		w := s.JoinBy(client, "KS.MEMO", c.name, "TOKEN", "asks again")
		link.LimitUp(0)
		c.generator.Unlock(c.name, c.promise)
		stage.Eventually(t, "the claim is held up", func() bool { return link.Held() > 0 })
		for proxy := range s.Proxies {
			s.Client(t, proxy).Expect(int64(0), answer, c.name, w.Token, "old", "PX", "60000")
		}
		link.Resume()
		w.Granted()
		c.stored(nil)
		w.Expect(int64(1), "KS.RESOLVE", c.name, w.Token, "new", "PX", "60000")
		c.closes("new")
	}
}
