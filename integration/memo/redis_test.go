package memo

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

func TestEverythingIsFlushedWhileOneGenerates(t *testing.T) {
	stage.OnOneAndThree(t, "all data is flushed", func(t *testing.T, proxies int) {
		s := stage.Setup{Proxies: proxies}.Start(t)
		for _, lease := range [][]string{{"EX", "60"}, {"SESSION"}} {
			c := begin(t, s, lease...)
			s.Must(t, "FLUSHALL")
			began := time.Now()
			c.generator.Expect(int64(0), "KS.RESOLVE", c.name, c.promise.Token, "of one who lost it")
			c.stored(nil)
			_, w := c.promoted() // there is no order any more
			took := time.Since(began)
			rest := c.resolves(w, crowd-1)
			c.row(fmt.Sprintf("FLUSHALL while one generates (%v)", lease), fmt.Sprintf("0 for its resolve; one is promoted, 5 have its value (after %v)", rest.Round(time.Millisecond)), took, 10*time.Second)
		}
	})
}

func TestRedisRestartsWhileOneGenerates(t *testing.T) {
	stage.OnOneAndThree(t, "with its data", func(t *testing.T, proxies int) { restarts(t, proxies, true) })
	stage.OnOneAndThree(t, "without its data", func(t *testing.T, proxies int) { restarts(t, proxies, false) })
}

func restarts(t *testing.T, proxies int, keeps bool) {
	var config []string
	failure := "Redis restarts without its data while one generates"
	if keeps {
		config = []string{"--appendonly", "yes", "--appendfsync", "always"}
		failure = "Redis restarts with its data while one generates"
	}
	s := stage.Setup{Proxies: proxies, Redis: config}.Start(t)
	c := begin(t, s, "EX", "600")
	began := time.Now()
	s.Kill(t)
	for range crowd {
		if o := <-c.outcomes; o.Err == nil {
			if _, refused := o.Reply.(stage.Refusal); !refused {
				t.Fatalf("a waiter is answered %#v", o.Reply)
			}
		}
	}
	c.generator.AwaitEnd(t)
	c.row(failure, "6 of 6 connections are closed", time.Since(began), soon)
	s.Again(t)
	began = time.Now()
	for proxy := range s.Proxies {
		again, g := s.LockAgain(t, proxy, fmt.Sprint("again:", proxy))
		again.Unlock(fmt.Sprint("again:", proxy), g)
	}
	c.row(failure, "calls are served again", time.Since(began), 10*time.Second)

	before := c.waiters
	c.waiters = nil
	if !keeps {
		c.generator = s.Client(t, 0)
		old := c.promise
		c.promise = c.generator.Generate(c.name)
		c.generator.Expect(int64(0), "KS.RESOLVE", c.name, old.Token, "of one who lost it")
	}
	callers := make([]*stage.Client, len(before))
	for i := range callers {
		callers[i] = s.Client(t, i%proxies)
		callers[i].Ask("KS.MEMO", c.name)
		c.waiters = append(c.waiters, &stage.Waiter{Client: callers[i], Name: c.name})
	}
	stage.Eventually(t, "all wait again", func() bool { return len(s.Line(t, c.name)) >= crowd })
	c.collect(c.waiters...)
	began = time.Now()
	s.Client(t, proxies-1).Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "v", "PX", "60000")
	c.have("v", crowd)
	outcome := "callers wait for the same promise, whose resolve they have"
	if !keeps {
		outcome = "one of the callers generates, 0 for the old one; the others have its value"
	}
	c.row(failure, outcome, time.Since(began), soon)
	c.closes("v")
}

// Somebody puts a key of another type in the place of one of ours: the calls that need it are refused and do
// nothing by halves; with the key gone all goes on.
func TestKeysOfAWrongTypeWhileOneGenerates(t *testing.T) {
	for _, what := range []string{"value", "lock", "lockwaiting", "lockwaitingset", "fence", "error"} {
		stage.OnOneAndThree(t, what, func(t *testing.T, proxies int) {
			s := stage.Setup{Proxies: proxies}.Start(t)
			wrongType(t, s, what)
			wrongTypeForGood(t, s, what)
		})
	}
}

// misplace puts a key of a wrong type in the place of one of the scene's.
func (c *scene) misplace(what string) (key string) {
	c.t.Helper()
	key = stage.KeyOf(c.name, what)
	if what == "value" {
		key = c.name
	}
	c.Must(c.t, "DEL", key)
	if what == "lockwaiting" || what == "lockwaitingset" || what == "fence" {
		c.Must(c.t, "SET", key, "of a wrong type")
	} else {
		c.Must(c.t, "RPUSH", key, "of a wrong type")
	}
	return key
}

// Who waits is told when it asks by itself; when the key is gone the name is as good as new.
func wrongTypeForGood(t *testing.T, s *stage.Stage, what string) {
	c := begin(t, s, "EX", "600")
	key := c.misplace(what)
	began := time.Now()
	for range crowd {
		if words, refused := c.next().Reply.(stage.Refusal); !refused || !strings.HasPrefix(string(words), "WRONGTYPE ") {
			t.Fatalf("a waiter is answered %q", words)
		}
	}
	took := time.Since(began)
	s.Must(t, "DEL", key, stage.KeyOf(c.name, "lock"))
	again := s.Client(t, 0)
	g := again.Generate(c.name, "WAIT", "10000")
	again.Expect(int64(1), "KS.RESOLVE", c.name, g.Token, "v", "PX", "60000")
	c.row("stranger: a key of a wrong type for "+what+" while one generates, for good", "6 of 6 are told so; when it is gone one generates", took, 15*time.Second)
	c.Must(t, "DEL", c.name)
}

func wrongType(t *testing.T, s *stage.Stage, what string) {
	c := begin(t, s, "EX", "600")
	key := c.misplace(what)
	// Whatever needs the key says so and changes nothing.
	refusals := 0
	for _, args := range [][]string{
		{"KS.RESOLVE", c.name, c.promise.Token, "v", "PX", "60000"},
		{"KS.REJECT", c.name, c.promise.Token, "no"},
		{"KS.MEMO", c.name, "NOWAIT"},
	} {
		if what == "error" && args[0] == "KS.MEMO" || what == "value" && args[0] == "KS.REJECT" {
			continue // does not need it, or is tried below
		}
		s.Client(t, 0).ExpectRefusal("WRONGTYPE ", args...)
		refusals++
	}
	if got := s.Must(t, "TYPE", key); got == "none" {
		t.Fatal("the key of a wrong type is gone")
	}
	if value, ok := s.Try(t, "GET", c.name).(string); ok {
		t.Fatalf("half of a refused call: the value is %q", value)
	}
	began := time.Now()
	s.Must(t, "DEL", key)
	// With the lock or the fence the promise is gone, with the line the order; who asked meanwhile was told.
	told, promotions, values := 0, 0, 0
	if what != "lock" {
		reply := c.generator.Call("KS.RESOLVE", c.name, c.promise.Token, "v", "PX", "60000")
		if reply != int64(1) {
			t.Fatalf("KS.RESOLVE answers %#v", reply)
		}
	}
	for range crowd {
		o := c.next()
		if g, err := stage.AsGrant(o.Reply); err == nil {
			promotions++
			o.Expect(int64(1), "KS.RESOLVE", c.name, g.Token, "v", "PX", "60000")
		} else if words, refused := o.Reply.(stage.Refusal); refused {
			if !strings.HasPrefix(string(words), "WRONGTYPE ") {
				t.Fatalf("a waiter is answered %q", words)
			}
			told++
		} else {
			stage.WantValue(t, o.Reply, "v")
			values++
		}
	}
	if promotions > 1 {
		t.Fatalf("%d generated", promotions)
	}
	c.row("stranger: a key of a wrong type for "+what+" while one generates, then DEL of it",
		fmt.Sprintf("%d calls refused with WRONGTYPE, nothing half done; %d waiters told so, %d promoted, %d have the value", refusals, told, promotions, values),
		time.Since(began), 20*time.Second)
	c.Must(t, "DEL", c.name)
	c.AwaitLine(t, c.name, 0)
}
