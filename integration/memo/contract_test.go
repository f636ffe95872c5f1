package memo

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// What holds for KS commands altogether, as far as memo locks go.
var contractScenes = []stage.Scene{
	{Name: "bad input is refused, and nothing is done", Run: badInput},
	{Name: "a message of a rejection has a bound and no line breaks", Run: messages},
	{Name: "databases are apart", Run: databases},
	{Name: "replies are the same in RESP2 and RESP3, but for nil", Run: protocols},
	{Name: "calls act in order with those around them", Run: inOrder},
	{Name: "not within MULTI, nor for a subscriber", Run: notThere},
	{Name: "waiting for oneself is told", Run: waitingForOneself},
	{Name: "a promise whose lease is not named has that of ks-lock-ttl", Run: defaultLease},
	{Name: "KS.EXTEND sets when a promise ends", Run: extendSets},
	{Name: "KS.STATUS tells of a promise, a value and an error", Run: statusTells},
	{Name: "KS.WAIT ends with the promise that stood", Run: waitEndsWithPromise},
	{Name: "KS.GUARD takes the token of a promise", Run: guardTakesPromise},
	{Name: "KS.UNLOCK without a token gives back the promise of this connection", Run: unlockWithoutToken},
}

func badInput(t *testing.T, s *stage.Stage) {
	c := begin(t, s)
	token := c.promise.Token
	const (
		syntax  = "ERR syntax error"
		integer = "ERR value is not an integer or out of range"
		badName = "ERR invalid lock name"
	)
	arity := func(command string) string { return "ERR wrong number of arguments for '" + command + "' command" }
	expire := func(command string) string { return "ERR invalid expire time in '" + command + "' command" }
	refused := map[string][][]string{
		arity("ks.memo"):    {{"KS.MEMO"}},
		arity("ks.resolve"): {{"KS.RESOLVE", c.name, token}},
		arity("ks.reject"):  {{"KS.REJECT", c.name, token}},
		arity("ks.forget"):  {{"KS.FORGET"}, {"KS.FORGET", c.name, "x"}},
		arity("ks.extend"):  {{"KS.EXTEND", c.name, token, "PX"}},
		syntax: {
			{"KS.MEMO", c.name, "x"},
			{"KS.MEMO", c.name, "PX"},
			{"KS.MEMO", c.name, "PX", "1", "PX", "1"},
			{"KS.MEMO", c.name, "PX", "1", "EX", "1"},
			{"KS.MEMO", c.name, "EX", "1", "SESSION"},
			{"KS.MEMO", c.name, "WAIT", "1", "NOWAIT"},
			{"KS.MEMO", c.name, "EX", "1", "STALE", "1"},
			{"KS.RESOLVE", c.name, token, "v", "STALE", "1"},
			{"KS.RESOLVE", c.name, token, "v", "EX", "1", "STALE"},
			{"KS.RESOLVE", c.name, token, "v", "EX", "1", "STALE", "1", "STALE", "1"},
			{"KS.RESOLVE", c.name, token, "v", "EX", "1", "PX", "1"},
			{"KS.RESOLVE", c.name, token, "v", "SESSION"},
			{"KS.RESOLVE", c.name, token, "v", "NOWAIT"},
			{"KS.REJECT", c.name, token, "m", "EX", "1", "STALE", "1"},
			{"KS.REJECT", c.name, token, "m", "EX"},
			{"KS.EXTEND", c.name, token, "SESSION", "1"},
		},
		integer: {
			{"KS.MEMO", c.name, "PX", "x"},
			{"KS.RESOLVE", c.name, token, "v", "EX", "1.5"},
			{"KS.RESOLVE", c.name, token, "v", "EX", "1", "STALE", "x"},
			{"KS.REJECT", c.name, token, "m", "PX", ""},
		},
		expire("ks.memo"):                                {{"KS.MEMO", c.name, "PX", "0"}, {"KS.MEMO", c.name, "EX", "-1"}},
		expire("ks.resolve"):                             {{"KS.RESOLVE", c.name, token, "v", "PX", "0"}, {"KS.RESOLVE", c.name, token, "v", "EX", "1", "STALE", "0"}, {"KS.RESOLVE", c.name, token, "v", "EX", "1", "STALE", "9007199254740993"}},
		expire("ks.reject"):                              {{"KS.REJECT", c.name, token, "m", "EX", "0"}},
		"ERR timeout is negative":                        {{"KS.MEMO", c.name, "WAIT", "-1"}},
		"ERR timeout is not an integer or out of range":  {{"KS.MEMO", c.name, "WAIT", "x"}},
		"ERR invalid token: it must have 1 to 128 bytes": {{"KS.MEMO", c.name, "TOKEN", ""}, {"KS.MEMO", c.name, "TOKEN", strings.Repeat("t", 129)}},
		badName: {
			{"KS.MEMO", ""},
			{"KS.MEMO", strings.Repeat("n", 64<<10+1)},
			{"KS.MEMO", stage.KeyOf(c.name, "stale")},
			{"KS.MEMO", stage.KeyOf(c.name, "error")},
			{"KS.RESOLVE", stage.KeyOf(c.name, "lock"), token, "v"},
			{"KS.REJECT", stage.KeyOf(c.name, "fence"), token, "m"},
			{"KS.FORGET", stage.KeyOf(c.name, "lockwaiting")},
			{"KS.EXTEND", stage.KeyOf(c.name, "lockwaitingset"), token, "EX", "1"},
		},
	}
	before := c.dump()
	calls := 0
	began := time.Now()
	for words, list := range refused {
		for _, call := range list {
			if got := s.Client(t, calls).Call(call...); got != stage.Refusal(words) {
				t.Errorf("%.80q answers %#v, want the error %q", call, got, words)
			}
			calls++
		}
	}
	took := time.Since(began)
	if after := c.dump(); after != before {
		t.Errorf("refused calls have changed Redis from\n%s\nto\n%s", before, after)
	}
	// Options in any case and order.
	c.generator.Expect(int64(1), "ks.Resolve", c.name, token, "v", "stale", "1", "px", "60000")
	c.have("v", crowd)
	c.generator.Expect(int64(1), "kS.fOrGeT", c.name)
	c.row(fmt.Sprintf("%d calls with bad input while one generates", calls), "each is refused, nothing has changed; 6 of 6 have the value", took, 10*soon)
	c.NothingOf(t, c.name, "fence")
}

func messages(t *testing.T, s *stage.Stage) {
	c := begin(t, s)
	c.generator.ExpectRefusal("ERR message is longer than 4096 bytes", "KS.REJECT", c.name, c.promise.Token, strings.Repeat("m", 4097))
	c.AwaitLine(t, c.name, crowd)
	c.generator.Expect(int64(1), "KS.REJECT", c.name, c.promise.Token, "two\r\nlines", "EX", "60")
	c.told("two  lines", crowd)
	s.Client(t, 1).ExpectRefusal("MEMOERR two  lines", "KS.MEMO", c.name)
	c.forget(1)
	longest := strings.Repeat("m", 4096)
	c.anew()
	c.generator.Expect(int64(1), "KS.REJECT", c.name, c.promise.Token, longest, "EX", "60")
	s.Client(t, 0).ExpectRefusal("MEMOERR "+longest, "KS.MEMO", c.name)
	c.forget(1)
}

func databases(t *testing.T, s *stage.Stage) {
	c := begin(t, s)
	other := s.Client(t, len(s.Proxies)-1)
	other.Expect("OK", "SELECT", "1")
	g := other.Generate(c.name)
	var there []*stage.Client // wait for the same name in the other database
	for proxy := range s.Proxies {
		w := s.Client(t, proxy)
		w.Expect("OK", "SELECT", "1")
		w.Ask("KS.MEMO", c.name)
		there = append(there, w)
	}
	stage.Eventually(t, "all wait there", func() bool {
		return other.Call("LLEN", stage.KeyOf(c.name, "lockwaiting")) == int64(len(there))
	})
	other.Expect(int64(0), "KS.RESOLVE", c.name, c.promise.Token, "of the wrong database")
	other.Expect(int64(1), "KS.RESOLVE", c.name, g.Token, "there", "PX", "400", "STALE", "60000")
	for _, w := range there {
		stage.WantValue(t, w.Next(), "there")
	}
	c.AwaitLine(t, c.name, crowd)
	stage.Eventually(t, "the value's TTL has ended", func() bool { return other.Call("GET", c.name) == nil })
	g = other.Generate(c.name)
	there[0].Ask("KS.MEMO", c.name)
	if got := fmt.Sprint(there[0].Next()); got != "[stale there]" {
		t.Fatalf("in its own database the stale value is answered %s", got)
	}
	other.Expect(int64(1), "KS.REJECT", c.name, g.Token, "not there", "EX", "60")
	there[0].ExpectRefusal("MEMOERR not there", "KS.MEMO", c.name)
	c.AwaitLine(t, c.name, crowd)
	other.Expect(int64(1), "KS.FORGET", c.name)
	other.Expect(int64(0), "KS.FORGET", c.name)
	if early := len(c.outcomes); early > 0 {
		t.Fatalf("%d were answered what is of another database", early)
	}
	c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "here", "PX", "60000")
	c.have("here", crowd)
	other.Unlock(c.name, other.Generate(c.name)) // nothing there
	other.Expect(int64(1), "DEL", stage.KeyOf(c.name, "fence"))
	c.closes("here")
}

func protocols(t *testing.T, s *stage.Stage) {
	for protocol, none := range map[string]string{"2": "*-1\r\n", "3": "_\r\n"} {
		c := open(t, s)
		c.generator.Unlock(c.name, c.promise)
		client, other := s.Client(t, 0), s.Client(t, len(s.Proxies)-1)
		client.Call("HELLO", protocol)
		want := func(reply string, command ...string) {
			t.Helper()
			if got := client.Do(t, command...); got != reply {
				t.Fatalf("RESP%s: %q answers %q, want %q", protocol, command, got, reply)
			}
		}
		want("*2\r\n$8\r\ngenerate\r\n$1\r\nt\r\n", "KS.MEMO", c.name, "TOKEN", "t")
		want(":1\r\n", "KS.EXTEND", c.name, "t", "EX", "60")
		want(none, "KS.MEMO", c.name, "NOWAIT", "TOKEN", "another")
		want(":0\r\n", "KS.RESOLVE", c.name, "another", "v")
		want(":1\r\n", "KS.RESOLVE", c.name, "t", "v", "PX", "200", "STALE", "60000")
		want("*2\r\n$5\r\nvalue\r\n$1\r\nv\r\n", "KS.MEMO", c.name)
		c.awaitEnd()
		g := other.Generate(c.name)
		want("*2\r\n$5\r\nstale\r\n$1\r\nv\r\n", "KS.MEMO", c.name)
		other.Expect(int64(1), "KS.REJECT", c.name, g.Token, "no", "EX", "60")
		want("-MEMOERR no\r\n", "KS.MEMO", c.name)
		want(":1\r\n", "KS.FORGET", c.name)
		want(":0\r\n", "KS.FORGET", c.name)
	}
}

func inOrder(t *testing.T, s *stage.Stage) {
	c := open(t, s)
	client := s.Client(t, len(s.Proxies)-1)
	client.Send(t, harness.Command("SET", c.name+"2", "before")+
		harness.Command("KS.MEMO", c.name+"2")+
		harness.Command("KS.MEMO", c.name)+ // waits
		harness.Command("GET", c.name)+
		harness.Command("DEL", c.name+"2"))
	client.Want(t, "+OK\r\n")
	client.Want(t, "*2\r\n$5\r\nvalue\r\n$6\r\nbefore\r\n")
	c.AwaitLine(t, c.name, 1)
	if n := s.Must(t, "EXISTS", c.name+"2"); n != int64(1) {
		t.Fatal("what was sent behind a call that waits was done before it")
	}
	c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "v", "PX", "60000")
	client.Want(t, "*2\r\n$5\r\nvalue\r\n$1\r\nv\r\n")
	client.Want(t, "$1\r\nv\r\n")
	client.Want(t, ":1\r\n")
	c.closes("v")
}

func notThere(t *testing.T, s *stage.Stage) {
	c := open(t, s)
	calls := [][]string{
		{"KS.MEMO", c.name},
		{"KS.RESOLVE", c.name, c.promise.Token, "v"},
		{"KS.REJECT", c.name, c.promise.Token, "m"},
		{"KS.FORGET", c.name},
	}
	for i, call := range calls {
		client := s.Client(t, i)
		client.Expect("OK", "MULTI")
		client.ExpectRefusal("ERR unknown command", call...)
		client.ExpectRefusal("EXECABORT", "EXEC")
		client.Do(t, "SUBSCRIBE", c.name)
		client.ExpectRefusal("ERR Can't execute '"+strings.ToLower(call[0])+"': only (P|S)SUBSCRIBE / ", call...)
	}
	c.AwaitOwner(t, c.name, c.promise.Token)
	c.stored(nil)
	c.generator.Unlock(c.name, c.promise)
}

func waitingForOneself(t *testing.T, s *stage.Stage) {
	c := open(t, s, "SESSION")
	c.generator.ExpectRefusal("DEADLOCK ", "KS.MEMO", c.name)
	c.generator.Expect(nil, "KS.MEMO", c.name, "NOWAIT")
	c.generator.Unlock(c.name, c.promise)

	c.promise = c.generator.Generate(c.name)
	c.generator.Send(t, harness.Command("KS.MEMO", c.name)+harness.Command("KS.UNLOCK", c.name, c.promise.Token))
	if got, ok := c.generator.Next().(stage.Refusal); !ok || !strings.HasPrefix(string(got), "DEADLOCK ") {
		t.Fatalf("KS.MEMO before the generator's own KS.UNLOCK answers %#v", got)
	}
	if got := c.generator.Next(); got != int64(1) {
		t.Fatalf("the KS.UNLOCK behind it answers %#v", got)
	}
}

func defaultLease(t *testing.T, s *stage.Stage) {
	c := begin(t, s)
	const lease = 30_000 // ks-lock-ttl
	left := func() int64 {
		ttl, _ := s.Must(t, "PTTL", stage.KeyOf(c.name, "lock")).(int64)
		return ttl
	}
	if ttl := left(); ttl > lease || ttl < lease/2 {
		t.Errorf("the promise lives for %d ms", ttl)
	}
	c.generator.Unlock(c.name, c.promise)
	w := c.first(0)
	if ttl := left(); ttl > lease || ttl < lease/2 {
		t.Errorf("the promise of who was promoted lives for %d ms", ttl)
	}
	c.resolves(w, crowd-1)
}

func extendSets(t *testing.T, s *stage.Stage) {
	for _, session := range []bool{false, true} {
		options := []string{"EX", "20"}
		if session {
			options = []string{"SESSION"}
		}
		c := begin(t, s, options...)
		for proxy := range s.Proxies {
			client := s.Client(t, proxy)
			for unit, ms := range map[string]int64{"PX": 1, "EX": 1000} {
				for _, lease := range []int64{600_000, 60_000} {
					client.Expect(int64(1), "KS.EXTEND", c.name, c.promise.Token, unit, fmt.Sprint(lease/ms))
					ttl, _ := s.Must(t, "PTTL", stage.KeyOf(c.name, "lock")).(int64)
					if session {
						lease = 30_000 // stays as it is
					}
					if ttl > lease || ttl < lease/2 {
						t.Errorf("the promise (%v), extended by %s %d ms, ends in %d ms", options, unit, lease, ttl)
					}
				}
			}
			client.Expect(int64(0), "KS.EXTEND", c.name, "another's", "EX", "60")
		}
		c.AwaitLine(t, c.name, crowd)
		c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "v", "PX", "60000")
		c.generator.Expect(int64(0), "KS.EXTEND", c.name, c.promise.Token, "EX", "60")
		c.have("v", crowd)
		c.closes("v")
	}
}

func statusTells(t *testing.T, s *stage.Stage) {
	c := &scene{Stage: s, t: t, name: "status:memo", generator: s.Client(t, 0)}
	tells := func(held, waiters, value, err int64) {
		t.Helper()
		for proxy := range s.Proxies {
			s.Client(t, proxy).ExpectFields(c.name, map[string]any{"held": held, "waiters": waiters, "value": value, "error": err})
		}
	}
	tells(0, 0, 0, 0)
	c.generator.Expect("OK", "CLIENT", "SETNAME", "the-generator")
	c.promise = c.generator.Generate(c.name, "EX", "60")
	c.join(0)
	tells(1, 1, 0, 0)
	fields := s.Client(t, 0).Status(c.name)
	if owner, _ := fields["owner"].(string); !strings.Contains(owner, "the-generator") {
		t.Errorf("the owner is %q", owner)
	}
	if all := fmt.Sprint(fields); strings.Contains(all, c.promise.Token) || strings.Contains(all, c.waiters[0].Token) {
		t.Errorf("a token is shown: %s", all)
	}
	c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "", "EX", "60")
	tells(0, 0, 1, 0)
	c.forget(1)
	c.promise = c.generator.Generate(c.name)
	c.generator.Expect(int64(1), "KS.REJECT", c.name, c.promise.Token, "no", "EX", "60")
	tells(0, 0, 0, 1)
	c.forget(1)
	c.promise = c.generator.Generate(c.name)
	c.generator.Expect(int64(1), "KS.REJECT", c.name, c.promise.Token, "no") // is for those who waited
	tells(0, 0, 0, 0)
}

func waitEndsWithPromise(t *testing.T, s *stage.Stage) {
	for _, end := range []string{"KS.RESOLVE", "KS.REJECT", "KS.UNLOCK", "KS.FORGET"} {
		c := begin(t, s)
		watcher := s.Client(t, len(s.Proxies)-1)
		watcher.Ask("KS.WAIT", c.name, "0")
		stage.Eventually(t, "watched", func() bool { return s.Must(t, "HEXISTS", stage.KeyOf(c.name, "fence"), "w") == int64(1) })
		switch end {
		case "KS.FORGET":
			c.forget(1)
		case "KS.UNLOCK":
			c.generator.Unlock(c.name, c.promise)
		default:
			c.generator.Expect(int64(1), end, c.name, c.promise.Token, "v", "PX", "60000")
		}
		if got := watcher.Next(); got != int64(1) {
			t.Fatalf("KS.WAIT answers %#v at the end of a promise by %s", got, end)
		}
		switch end {
		case "KS.RESOLVE":
			c.have("v", crowd)
			c.closes("v")
		case "KS.REJECT":
			c.told("v", crowd)
			c.forget(1)
		default:
			c.resolves(c.first(0), crowd-1)
		}
		watcher.Expect(int64(1), "KS.WAIT", c.name, "0")
	}
}

func guardTakesPromise(t *testing.T, s *stage.Stage) {
	c := open(t, s)
	written := c.name + " written"
	other := s.Client(t, len(s.Proxies)-1)
	other.Expect("OK", "KS.GUARD", c.name, c.promise.Token, "SET", written, "by who makes the value")
	c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "v", "PX", "60000")
	other.ExpectRefusal("LOCKLOST ", "KS.GUARD", c.name, c.promise.Token, "SET", written, "late")
	other.Expect("by who makes the value", "GET", written)
	other.Expect(int64(1), "DEL", written)
	c.closes("v")
}

func unlockWithoutToken(t *testing.T, s *stage.Stage) {
	c := begin(t, s)
	s.Client(t, 0).Expect(int64(0), "KS.UNLOCK", c.name)
	c.generator.Expect(int64(1), "KS.UNLOCK", c.name)
	c.resolves(c.first(0), crowd-1)
}

// ks-lock-wait is for those who name no WAIT.
func TestTheWaitOfMemoCallersHasADefault(t *testing.T) {
	stage.OnOneAndThree(t, "ks-lock-wait 300", func(t *testing.T, proxies int) {
		s := stage.Setup{Proxies: proxies, Args: []string{"--ks-lock-wait", "300"}}.Start(t)
		c := open(t, s)
		began := time.Now()
		s.Client(t, proxies-1).Expect(nil, "KS.MEMO", c.name)
		if waited := time.Since(began); waited < 300*time.Millisecond {
			t.Errorf("it waited for %v", waited)
		}
		w := s.JoinMemo(t, proxies-1, c.name, "WAIT", "0")
		c.generator.Unlock(c.name, c.promise)
		w.Granted()
		w.Unlocks()
	})
}
