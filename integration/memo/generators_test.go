package memo

import (
	"fmt"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

var generatorScenes = []stage.Scene{
	{Name: "a lease outlives its connection", Run: leaseOutlivesConnection},
	{Name: "a SESSION promise ends with its connection", Run: sessionEnds},
	{Name: "a lease that runs out promotes the first", Run: lapses},
	{Name: "resolving late stores nothing", Run: resolvesLate},
	{Name: "rejecting late tells nobody", Run: rejectsLate},
	{Name: "a second answer counts for nothing", Run: answersTwice},
	{Name: "a generator gives up", Run: givesUp},
	{Name: "a rejection is told to all who wait", Run: rejects},
	{Name: "an answer is told to those who would not ask so soon", Run: told},
	{Name: "a rejection with a TTL is told to those who come", Run: rejectsForAWhile},
	{Name: "promises lapse one after the other", Run: allLapse},
	{Name: "a generator that asks again has the same promise", Run: asksAgain},
	{Name: "a lease may be made longer", Run: extends},
}

func leaseOutlivesConnection(t *testing.T, s *stage.Stage) {
	c := begin(t, s, "EX", "60")
	c.generator.Close()
	other := s.Client(t, len(s.Proxies)-1)
	began := time.Now()
	other.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "from elsewhere", "PX", "30000")
	c.have("from elsewhere", crowd)
	c.row("generator with a lease: connection closed, resolves over another", "6 of 6 have the value", time.Since(began), soon)
	c.closes("from elsewhere")

	c = begin(t, s, "EX", "60")
	ends := c.lapses()
	c.generator.Close()
	w := c.first(0)
	promoted := sinceOrZero(ends)
	c.resolves(w, crowd-1)
	c.row("generator with a lease: connection closed, never resolves", "the first is promoted after the lease, 5 have its value", promoted, soon)
}

func sessionEnds(t *testing.T, s *stage.Stage) {
	for how, end := range map[string]func(*scene){
		"connection closed (FIN)": func(c *scene) { c.generator.Close() },
		"connection reset (RST)":  func(c *scene) { c.generator.Reset(t) },
		"RESET on its connection": func(c *scene) { c.generator.Call("RESET") },
	} {
		c := begin(t, s, "SESSION")
		began := time.Now()
		end(c)
		w := c.first(0)
		promoted := time.Since(began)
		s.Client(t, 0).Expect(int64(0), "KS.RESOLVE", c.name, c.promise.Token, "of the dead")
		c.resolves(w, crowd-1)
		c.row("generator with SESSION: "+how, "the first is promoted, 5 have its value", promoted, soon)
	}
	// A process that is killed.
	c := &scene{Stage: s, t: t, name: "killed:generator"}
	caller := startCaller(t, s.Proxies[0].Addr, "KS.MEMO", c.name, "SESSION")
	reply := caller.reply(t)
	g, err := stage.AsGrant(reply)
	if err != nil {
		t.Fatal(err)
	}
	c.promise = g
	for i := range crowd {
		c.join((i + 1) % len(s.Proxies))
	}
	c.listen()
	began := time.Now()
	caller.kill(t)
	w := c.first(0)
	promoted := time.Since(began)
	c.resolves(w, crowd-1)
	c.row("generator with SESSION: its process killed", "the first is promoted, 5 have its value", promoted, soon)
}

func lapses(t *testing.T, s *stage.Stage) {
	const lease = 3 * time.Second // time enough for all to stand in line
	c := open(t, s, "PX", fmt.Sprint(lease.Milliseconds()))
	ends := time.Now().Add(lease) // or a little earlier
	for i := range crowd {
		c.join((i + 1) % len(s.Proxies))
	}
	c.collect(c.waiters...)
	w := c.first(0)
	promoted := sinceOrZero(ends)
	c.resolves(w, crowd-1)
	c.row("generator's lease runs out", "the first is promoted, 5 have its value", promoted, soon)
}

func resolvesLate(t *testing.T, s *stage.Stage) {
	c := begin(t, s)
	c.lapses()
	w := c.first(0)
	began := time.Now()
	c.generator.Expect(int64(0), "KS.RESOLVE", c.name, c.promise.Token, "late", "PX", "30000")
	took := time.Since(began)
	c.stored(nil)
	c.resolves(w, crowd-1)
	c.row("generator resolves after its lease, its successor at it", "0, nothing stored; all have the successor's", took, soon)

	// And when the successor is done.
	c = begin(t, s)
	c.lapses()
	w = c.first(0)
	w.Expect(int64(1), "KS.RESOLVE", c.name, w.Token, "in time", "PX", "30000")
	c.have("in time", crowd-1)
	began = time.Now()
	c.generator.Expect(int64(0), "KS.RESOLVE", c.name, c.promise.Token, "too late")
	took = time.Since(began)
	c.stored("in time")
	c.row("generator resolves after its successor did", "0, the successor's value stays", took, soon)
	c.closes("in time")

	// And when nobody waited and nobody came.
	c = open(t, s, "PX", "1")
	c.AwaitFree(t, c.name)
	began = time.Now()
	c.generator.Expect(int64(0), "KS.RESOLVE", c.name, c.promise.Token, "too late")
	c.stored(nil)
	c.row("generator resolves after its lease, nobody else came", "0, nothing stored", time.Since(began), soon)
}

func rejectsLate(t *testing.T, s *stage.Stage) {
	c := begin(t, s)
	c.lapses()
	w := c.first(0)
	began := time.Now()
	c.generator.Expect(int64(0), "KS.REJECT", c.name, c.promise.Token, "late", "PX", "30000")
	took := time.Since(began)
	c.resolves(w, crowd-1)
	c.row("generator rejects after its lease, its successor at it", "0, nobody is told; all have the successor's", took, soon)
}

func answersTwice(t *testing.T, s *stage.Stage) {
	answers := map[string][]string{
		"resolves": {"KS.RESOLVE", "", "", "second", "PX", "30000"},
		"rejects":  {"KS.REJECT", "", "", "second", "PX", "30000"},
		"gives up": {"KS.UNLOCK", "", ""},
	}
	for how, again := range answers {
		c := begin(t, s)
		c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "first", "PX", "30000")
		again[1], again[2] = c.name, c.promise.Token
		began := time.Now()
		c.generator.Expect(int64(0), again...)
		took := time.Since(began)
		s.Client(t, len(s.Proxies)-1).Expect(int64(0), again...)
		c.have("first", crowd)
		c.row("generator resolves, then "+how, "0 the second time; 6 of 6 have the first value", took, soon)
		c.closes("first")
	}
	for how, again := range answers {
		c := begin(t, s)
		c.generator.Expect(int64(1), "KS.REJECT", c.name, c.promise.Token, "no")
		again[1], again[2] = c.name, c.promise.Token
		began := time.Now()
		c.generator.Expect(int64(0), again...)
		took := time.Since(began)
		c.told("no", crowd)
		c.stored(nil)
		c.row("generator rejects, then "+how, "0 the second time; 6 of 6 have the error", took, soon)
	}
}

func givesUp(t *testing.T, s *stage.Stage) {
	c := begin(t, s)
	began := time.Now()
	c.generator.Unlock(c.name, c.promise)
	w := c.first(0)
	promoted := time.Since(began)
	c.generator.Expect(int64(0), "KS.RESOLVE", c.name, c.promise.Token, "after all")
	c.stored(nil)
	c.resolves(w, crowd-1)
	c.row("generator gives up (KS.UNLOCK)", "the first is promoted, 5 have its value", promoted, soon)
}

func rejects(t *testing.T, s *stage.Stage) {
	c := begin(t, s)
	began := time.Now()
	c.generator.Expect(int64(1), "KS.REJECT", c.name, c.promise.Token, "no such thing")
	c.told("no such thing", crowd)
	c.row("generator rejects, no TTL", "6 of 6 have the error", time.Since(began), soon)
	// The next new caller generates, also one that has just been told.
	for _, again := range []*stage.Client{c.waiters[0].Client, s.Client(t, len(s.Proxies)-1)} {
		began = time.Now()
		again.Unlock(c.name, again.Generate(c.name))
	}
	c.row("callers after a rejection without TTL", "the first to come generates", time.Since(began), soon)
	c.AwaitLine(t, c.name, 0)
}

// The first in line asks once a second, and tells the others what it finds. Here that is one who looks for no value.
func told(t *testing.T, s *stage.Stage) {
	for _, end := range []string{"KS.RESOLVE", "KS.REJECT"} {
		c := open(t, s)
		first := s.Join(t, len(s.Proxies)-1, c.name)
		for i := range crowd {
			c.join((i + 1) % len(s.Proxies))
		}
		c.listen()
		began := time.Now()
		c.generator.Expect(int64(1), end, c.name, c.promise.Token, "v", "PX", "60000")
		if end == "KS.RESOLVE" {
			c.have("v", crowd)
		} else {
			c.told("v", crowd)
		}
		took := time.Since(began)
		first.Granted()
		first.Unlocks()
		c.row("generator ends with "+end+", first in line is a KS.LOCK caller", "6 of 6 are told", took, soon)
		c.forget(1)
		c.NothingOf(t, c.name, "fence")
	}
}

func rejectsForAWhile(t *testing.T, s *stage.Stage) {
	c := begin(t, s)
	began := time.Now()
	c.generator.Expect(int64(1), "KS.REJECT", c.name, c.promise.Token, "not today", "PX", "600000")
	c.told("not today", crowd)
	c.row("generator rejects, with a TTL", "6 of 6 have the error", time.Since(began), soon)
	began = time.Now()
	for proxy := range s.Proxies {
		s.Client(t, proxy).ExpectRefusal("MEMOERR not today", "KS.MEMO", c.name)
	}
	c.row("callers while the error is memoized", "all have the error, nobody generates", time.Since(began), soon)
	s.Must(t, "DEL", stage.KeyOf(c.name, "error")) // as if the TTL had ended
	began = time.Now()
	again := s.Client(t, 0)
	again.Unlock(c.name, again.Generate(c.name))
	c.row("callers when the error's TTL has ended", "the first to come generates", time.Since(began), soon)
}

// Each successor fails, too: one generates at a time, in order, to the last.
func allLapse(t *testing.T, s *stage.Stage) {
	c := open(t, s)
	for i := range crowd {
		c.join((i+1)%len(s.Proxies), "PX", "200")
	}
	c.collect(c.waiters...)
	began := c.lapses()
	for i := range crowd {
		w := c.first(i)
		if i == crowd-1 {
			c.resolves(w, 0)
		}
	}
	c.row("generator and five successors lapse (PX 200)", "promoted one at a time, in order; the last resolves", sinceOrZero(began), crowd*200*time.Millisecond+2*soon)
}

func asksAgain(t *testing.T, s *stage.Stage) {
	const token = "asks again"
	c := open(t, s, "TOKEN", token, "EX", "60")
	for i := range crowd {
		c.join((i + 1) % len(s.Proxies))
	}
	c.listen()
	c.generator.Close()
	again := s.Client(t, len(s.Proxies)-1)
	began := time.Now()
	if g := again.Generate(c.name, "TOKEN", token, "EX", "60"); g.Token != token {
		t.Fatalf("the promise is %+v", g)
	}
	took := time.Since(began)
	again.Expect(int64(1), "KS.RESOLVE", c.name, token, "v", "PX", "30000")
	c.have("v", crowd)
	c.row("generator's connection closed, it asks again with its TOKEN elsewhere", "the same promise; 6 of 6 have the value", took, soon)
	c.closes("v")
}

func extends(t *testing.T, s *stage.Stage) {
	c := begin(t, s, "EX", "60")
	ends := c.lapses()
	w := c.first(0)
	promoted := sinceOrZero(ends)
	c.generator.Expect(int64(0), "KS.EXTEND", c.name, c.promise.Token, "EX", "60")
	s.Client(t, 0).Expect(int64(1), "KS.EXTEND", c.name, w.Token, "EX", "60")
	c.resolves(w, crowd-1)
	c.row("generator's lease of a minute is made shorter (KS.EXTEND)", "the first is promoted at its new end", promoted, soon)
}
