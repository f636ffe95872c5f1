package soak

import (
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/faults"
	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

const second = int64(time.Second)

func newCycle(t testing.TB) *cycle { return &cycle{report: newReport(io.Discard, t.TempDir())} }

// says fails the test unless a report complains so, or not at all.
func says(t *testing.T, r *report, want string) {
	t.Helper()
	wrong := strings.Join(r.wrongs, "\n")
	if want == "" && wrong != "" || !strings.Contains(wrong, want) {
		t.Errorf("the report says %q, want %q", wrong, want)
	}
}

func TestWrongAnswersAreFound(t *testing.T) {
	t.Parallel()
	// A value of the source's version 3, stored from second 2 to 3 for ten.
	stored := func(change func(*record)) record {
		r := record{kind: "resolve", version: 3, call: 2 * second, ret: 3 * second, ttl: 10 * time.Second, outcome: yes}
		if change != nil {
			change(&r)
		}
		return r
	}
	rejected := func(ttl time.Duration) record {
		return record{kind: "reject", version: 3, call: 2 * second, ret: 3 * second, ttl: ttl, outcome: yes}
	}
	for what, c := range map[string]struct {
		r        record
		v        view
		now      int64 // in seconds
		stale    bool
		rejected bool
		wrong    string
	}{
		"a value":                           {r: stored(nil), v: view{at: 4 * second}, now: 5},
		"a value that a waiter gets":        {r: stored(nil), v: view{at: 1 * second}, now: 14},
		"older than the source":             {r: stored(nil), v: view{at: 1 * second, floor: 4}, now: 5, wrong: "older than the source 4"},
		"forgotten":                         {r: stored(nil), v: view{at: 5 * second, forgotten: 4 * second}, now: 6, wrong: "stored before the last KS.FORGET"},
		"forgotten while it was stored":     {r: stored(nil), v: view{at: 5 * second, forgotten: 5 * second / 2}, now: 6},
		"deleted":                           {r: stored(nil), v: view{at: 5 * second, removed: 4 * second}, now: 6, wrong: "removed or replaced"},
		"past its TTL":                      {r: stored(nil), v: view{at: 14 * second}, now: 14, wrong: "its time was over"},
		"asked for within its TTL":          {r: stored(nil), v: view{at: 12 * second}, now: 14},
		"refused":                           {r: stored(func(r *record) { r.outcome, r.ret = no, 0 }), v: view{at: 4 * second}, now: 5, wrong: "it was refused"},
		"never sent":                        {r: stored(func(r *record) { r.call, r.ret = 0, 0 }), v: view{at: 4 * second}, now: 5, wrong: "not sent yet"},
		"a rejection as a value":            {r: rejected(0), v: view{at: 1 * second}, now: 5, wrong: "it is a rejection"},
		"a stale value":                     {r: stored(func(r *record) { r.stale = 5 * time.Second }), v: view{at: 14 * second}, now: 14, stale: true},
		"a stale value too early":           {r: stored(func(r *record) { r.stale = 5 * time.Second }), v: view{at: 4 * second}, now: 5, stale: true, wrong: "its time is not over"},
		"a stale value too late":            {r: stored(func(r *record) { r.stale = 5 * time.Second }), v: view{at: 19 * second}, now: 19, stale: true, wrong: "its time was over"},
		"a stale value that was replaced":   {r: stored(func(r *record) { r.stale = 5 * time.Second }), v: view{at: 14 * second, replaced: 4 * second}, now: 14, stale: true, wrong: "removed or replaced"},
		"a stale value without STALE":       {r: stored(nil), v: view{at: 12 * second}, now: 14, stale: true, wrong: "it has no stale time"},
		"a rejection":                       {r: rejected(0), v: view{at: 1 * second}, now: 4, rejected: true},
		"a rejection for who came later":    {r: rejected(0), v: view{at: 4 * second}, now: 5, rejected: true, wrong: "who came after it"},
		"a rejection that is kept":          {r: rejected(5 * time.Second), v: view{at: 4 * second}, now: 5, rejected: true},
		"a rejection that was kept":         {r: rejected(5 * time.Second), v: view{at: 9 * second}, now: 9, rejected: true, wrong: "its time was over"},
		"a rejection of before KS.FORGET":   {r: rejected(5 * time.Second), v: view{at: 5 * second, forgotten: 4 * second}, now: 5, rejected: true, wrong: "after KS.FORGET"},
		"a value as a rejection":            {r: stored(nil), v: view{at: 1 * second}, now: 4, rejected: true, wrong: "it is a value"},
		"a rejection that was not accepted": {r: func() record { r := rejected(0); r.outcome = no; return r }(), v: view{at: 1 * second}, now: 4, rejected: true, wrong: "it was refused"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			e := newEntry(newCycle(t), 1, "x")
			made := e.make(c.r.kind, c.r.version, 0)
			id, text := made.id, made.text
			*made = c.r
			made.id, made.text = id, text
			if c.rejected {
				e.rejection(c.v, c.now*second, text)
			} else {
				e.value(c.v, c.now*second, text, c.stale)
			}
			says(t, e.report, c.wrong)
		})
	}
}

func TestValuesOfOthersAreFound(t *testing.T) {
	t.Parallel()
	c := newCycle(t)
	e, other := newEntry(c, 1, "x"), newEntry(c, 2, "x")
	e.value(e.look(), e.now(), other.make("set", 1, 0).text, false)
	says(t, c.report, "a value of another name")
	e.value(e.look(), e.now(), `1|"x"|set|99|1|`, false)
	says(t, c.report, "a value that nobody made")
}

// Who asks while a value stands must get that one.
func TestIgnoredValuesAreFound(t *testing.T) {
	t.Parallel()
	c := newCycle(t)
	e := newEntry(c, 1, "x")
	r := e.make("set", 1, 0)
	_, number := e.change()
	r.call = e.now()
	e.settled(r, yes, e.now())
	e.changed(number, r.call, yes, r)
	v := e.look()
	e.value(v, e.now(), r.text, false)
	says(t, c.report, "")
	e.other(v, e.now(), "generate")
	says(t, c.report, "answered generate while the value")
}

// Which of two that were stored at the same time stands is not known, whoever was answered first.
func TestNothingStandsForSureAfterTwoChangesAtOnce(t *testing.T) {
	t.Parallel()
	c := newCycle(t)
	e := newEntry(c, 1, "x")
	r := e.make("set", 1, 0)
	_, first := e.change()
	_, second := e.change()
	r.call = e.now()
	e.changed(first, r.call, yes, nil)
	e.settled(r, yes, e.now())
	e.changed(second, r.call, yes, r)
	e.other(e.look(), e.now(), "generate")
	says(t, c.report, "")
}

func TestTwoHoldersAreFound(t *testing.T) {
	t.Parallel()
	a := hold{token: "a", promise: true, asked: 1 * second, begin: 2 * second, lease: 11 * second, over: 5 * second}
	for what, c := range map[string]struct {
		b       hold
		forgets []span
		wrong   string
	}{
		"one after the other": {b: hold{token: "b", promise: true, asked: 1 * second, begin: 6 * second, lease: 11 * second}},
		"both":                {b: hold{token: "b", promise: true, asked: 3 * second, begin: 4 * second, lease: 13 * second}, wrong: "b held from 4s until 13s, a from 2s until 5s"},
		"a lock beside it":    {b: hold{token: "b", asked: 3 * second, begin: 4 * second, lease: 13 * second}, wrong: "b held"},
		"after KS.FORGET":     {b: hold{token: "b", promise: true, asked: 3 * second, begin: 4 * second, lease: 13 * second}, forgets: []span{{3 * second, 4 * second}}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			e := newEntry(newCycle(t), 1, "x")
			e.held(a)
			e.forgets = c.forgets
			e.held(c.b)
			says(t, e.report, c.wrong)
		})
	}
}

func TestWrongOutcomesAreFound(t *testing.T) {
	t.Parallel()
	h := hold{token: "a", promise: true, asked: 1 * second, begin: 2 * second, lease: 11 * second}
	for what, c := range map[string]struct {
		forgets   []span
		call, ret int64
		o         outcome
		wrong     string
	}{
		"accepted":                  {call: 3, ret: 4, o: yes},
		"accepted, but forgotten":   {forgets: []span{{3 * second, 4 * second}}, call: 5, ret: 6, o: yes, wrong: "after KS.FORGET was answered"},
		"refused, as forgotten":     {forgets: []span{{3 * second, 4 * second}}, call: 5, ret: 6, o: no},
		"refused within the lease":  {call: 3, ret: 4, o: no, wrong: "though its lease lasts"},
		"refused beyond that":       {call: 10, ret: 12, o: no},
		"forgotten before its time": {forgets: []span{{second / 4, second / 2}}, call: 3, ret: 4, o: no, wrong: "though its lease lasts"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			e := newEntry(newCycle(t), 1, "x")
			e.forgets = c.forgets
			e.released("KS.RESOLVE", h, c.call*second, c.ret*second, c.o)
			says(t, e.report, c.wrong)
		})
	}
}

func TestWaitersThatHangAreFound(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c := &client{cycle: newCycle(t), random: rand.New(rand.NewPCG(1, 1))}
	if c.conn, err = harness.TryDial(silent.Addr().String()); err != nil {
		t.Fatal(err)
	}
	a := c.ask(newEntry(c.cycle, 0, "x"), 20*time.Millisecond, 0, "KS.MEMO", "x", "PX", "1000", "NOWAIT")
	if a.status != broken || len(c.hungs) != 1 {
		t.Errorf("a call that is not answered counts as %v; hung: %q", a, c.hungs)
	}
}

func TestLeftoversAreFound(t *testing.T) {
	t.Parallel()
	c := newCycle(t)
	c.Field = faults.Start(t)
	c.quiet = harness.Patience // the proxies are still connecting
	c.looksAfter(t)
	if len(c.lefts) > 0 {
		t.Fatalf("left over before anything was done: %q", c.lefts)
	}
	a := admin{t, c.Redis.Dial(t)}
	a.do("SET", "x/lock:1", "token", "PX", "60000")
	a.do("SUBSCRIBE", "x/notif:1")
	c.quiet = 0
	c.looksAfter(t)
	for kind, what := range map[string]string{"keys": "x/lock:1", "subscriptions": "x/notif:1", "connections": "cmd:subscribe"} {
		found := func(left string) bool { return strings.HasPrefix(left, kind+": ") && strings.Contains(left, what) }
		if !slices.ContainsFunc(c.lefts, found) {
			t.Errorf("of the %s %s is not found to be left over; in all: %q", kind, what, c.lefts)
		}
	}
}
