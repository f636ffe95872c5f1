package memopeers

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// setting is two peers of one kind, and ours, with a name of their own.
type setting struct {
	*stage.Stage
	t         *testing.T
	kind      kind
	one, two  *peer
	name      string
	generator *stage.Client
	waiters   []*stage.Waiter
}

var stories = []struct {
	name string
	tell func(*setting)
}{
	{"we resolve for them", weResolve},
	{"we resolve for them with values that are empty or large", weResolveOddValues},
	{"they resolve for us", theyResolve},
	{"both wait at once", bothWait},
	{"we renew while they wait", weRenew},
	{"they renew while we wait", theyRenew},
	{"a worker that knows the key alone resolves", workerResolves},
	{"we reject, give up and lapse while they wait", weFail},
	{"they fail while we wait", theyFail},
	{"their lock is left behind", lockLeftBehind},
	{"their lock is immortal", lockImmortal},
	{"their lock has no TTL", lockWithoutTTL},
	{"their lock is deleted by a renewal of nothing", lockRenewedAway},
	{"we forget while they generate", weForget},
	{"a value of ours is forgotten while they wait", weForgetOurs},
	{"they generate while ours is stale", theyGenerateWhileStale},
	{"values of the same tag are apart", otherNames},
	{"strangers set values at every point", strangers},
}

func TestSharedWithRedisMemolock(t *testing.T) {
	t.Parallel()
	for _, proxies := range []int{1, 3} {
		for _, k := range kinds {
			for _, path := range []string{"on Redis", "through a proxy"} {
				t.Run(fmt.Sprintf("%d proxies, %s %s", proxies, k.name, path), func(t *testing.T) {
					t.Parallel()
					s := stage.Setup{Proxies: proxies}.Start(t)
					addr := s.Addr
					if path != "on Redis" {
						addr = s.Proxies[proxies-1].Addr
					}
					one, two := startPeer(t, k, addr, "one"), startPeer(t, k, addr, "two")
					for i, story := range stories {
						t.Run(story.name, func(t *testing.T) {
							one.t, two.t = t, t
							story.tell(&setting{Stage: s, t: t, kind: k, one: one, two: two, name: fmt.Sprintf("story%d:v", i), generator: s.Client(t, 0)})
						})
					}
				})
			}
		}
	}
}

// patience is that of a peer that is to be answered.
const patience = harness.Patience

// begin has us generate.
func (c *setting) begin(options ...string) stage.Grant {
	c.t.Helper()
	return c.generator.Generate(c.name, append([]string{"EX", "600"}, options...)...)
}

// wait has two of ours wait on each proxy, or one if there is no line yet.
func (c *setting) wait() {
	c.t.Helper()
	c.waiters = nil
	for range 2 {
		for proxy := range c.Proxies {
			c.waiters = append(c.waiters, c.JoinMemo(c.t, proxy, c.name))
		}
	}
	channel := stage.KeyOf(c.name, "notif")
	stage.Eventually(c.t, "all proxies listen to "+channel, func() bool {
		return c.Must(c.t, "PUBSUB", "NUMSUB", channel).([]any)[1] == int64(len(c.Proxies))
	})
}

// have waits until all of ours have the value.
func (c *setting) have(value string) {
	c.t.Helper()
	for _, w := range c.waiters {
		stage.WantValue(c.t, w.Next(), value)
	}
}

// promoted waits until the first of ours generates, who resolves for all others.
func (c *setting) promoted() {
	c.t.Helper()
	c.waiters[0].Granted()
	c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.waiters[0].Token, "the successor's", "EX", "60")
	c.waiters = c.waiters[1:]
	c.have("the successor's")
}

// clear removes what a peer may have left.
func (c *setting) clear() {
	c.t.Helper()
	c.AwaitLine(c.t, c.name, 0)
	c.Must(c.t, "DEL", c.name, stage.KeyOf(c.name, "lock"), stage.KeyOf(c.name, "error"))
}

func (c *setting) resolve(g stage.Grant, value string) {
	c.t.Helper()
	c.generator.Expect(int64(1), "KS.RESOLVE", c.name, g.Token, value, "EX", "60")
}

func weResolve(c *setting) {
	g := c.begin()
	c.one.waits(c.name, patience)
	c.two.waits(c.name, patience)
	c.resolve(g, "ours")
	c.one.has("ours")
	c.two.has("ours")
	c.one.tell("ask %s 60000 1000", c.name)
	if got := c.one.says("hit "); got != "ours" {
		c.t.Errorf("a hit is %q", got)
	}
	c.Must(c.t, "DEL", c.name)
	// The promise is free: the next of theirs has it.
	c.one.generates(c.name, 60_000)
	c.one.tell("store 60000 theirs")
	c.one.says("stored")
	stage.WantValue(c.t, c.generator.Call("KS.MEMO", c.name), "theirs")
	c.clear()
}

func weResolveOddValues(c *setting) {
	g := c.begin()
	c.one.waits(c.name, patience)
	c.resolve(g, "")
	c.one.has("")
	c.Must(c.t, "DEL", c.name)

	// More than 1 MiB is not published: their waiters time out, and find it when they ask again.
	large := strings.Repeat("x", 1<<20+1)
	g = c.begin()
	c.one.waits(c.name, 500*time.Millisecond)
	c.resolve(g, large)
	c.one.says("timeout ")
	c.Must(c.t, "SET", c.name, "it is there") // the log need not show a megabyte
	c.one.tell("ask %s 60000 1000", c.name)
	c.one.says("hit it is there")
	c.clear()
}

func theyResolve(c *setting) {
	for _, value := range []string{"theirs", ""} {
		c.one.generates(c.name, 60_000)
		c.wait()
		began := time.Now()
		c.one.tell("store 60000 %s", value)
		c.one.says("stored")
		c.have(value)
		stage.Took(c.t, "our waiters had their value", began, 0, 3*time.Second)
		for proxy := range c.Proxies {
			stage.WantValue(c.t, c.Client(c.t, proxy).Call("KS.MEMO", c.name), value)
		}
		left := c.Owner(c.t, c.name) != ""
		if left == c.kind.deletes {
			c.t.Errorf("their lock is left: %v", left)
		}
		c.clear()
	}
}

func bothWait(c *setting) {
	g := c.begin()
	c.wait()
	c.one.waits(c.name, patience)
	c.two.waits(c.name, patience)
	c.resolve(g, "ours")
	c.have("ours")
	c.one.has("ours")
	c.two.has("ours")
	c.clear()

	c.one.generates(c.name, 60_000)
	c.wait()
	c.two.waits(c.name, patience)
	c.one.tell("store 60000 theirs")
	c.one.says("stored")
	c.have("theirs")
	c.two.has("theirs")
	c.clear()
}

func weRenew(c *setting) {
	g := c.generator.Generate(c.name, "PX", "30000")
	c.wait()
	c.one.waits(c.name, patience)
	c.generator.Expect(int64(1), "KS.EXTEND", c.name, g.Token, "EX", "600")
	if left, _ := c.Must(c.t, "PTTL", stage.KeyOf(c.name, "lock")).(int64); left < 500_000 {
		c.t.Errorf("the lock lives for %d ms", left)
	}
	c.resolve(g, "late")
	c.have("late")
	c.one.has("late")
	c.clear()
}

func theyRenew(c *setting) {
	c.one.generates(c.name, 10_000)
	c.wait()
	c.two.waits(c.name, patience)
	c.one.tell("renew 600000")
	c.one.says("renewed 1")
	if left, _ := c.Must(c.t, "PTTL", stage.KeyOf(c.name, "lock")).(int64); left < 500_000 {
		c.t.Errorf("their lock lives for %d ms", left)
	}
	c.one.tell("store 60000 late")
	c.one.says("stored")
	c.have("late")
	c.two.has("late")
	c.clear()
}

// workerResolves: whoever knows the key may store and publish, whoever generates.
func workerResolves(c *setting) {
	for _, generates := range []string{"we", "they", "nobody that is known"} {
		var g stage.Grant
		switch generates {
		case "we":
			g = c.begin()
		case "they":
			c.one.generates(c.name, 60_000)
		default:
			c.Must(c.t, "SET", stage.KeyOf(c.name, "lock"), "a worker's", "EX", "60")
		}
		c.wait()
		c.two.waits(c.name, patience)
		began := time.Now()
		c.worker("the worker's", "EX", "60")
		c.have("the worker's")
		c.two.has("the worker's")
		stage.Took(c.t, generates+" generate; all had the worker's value", began, 0, 3*time.Second)
		if generates == "we" {
			c.resolve(g, "after all") // the promise stood
		}
		c.clear()
	}
}

// worker stores and publishes a value.
func (c *setting) worker(value string, options ...string) {
	c.t.Helper()
	c.Must(c.t, append([]string{"SET", c.name, value}, options...)...)
	c.Must(c.t, "PUBLISH", stage.KeyOf(c.name, "notif"), value)
}

// weFail: an error must not reach them as a value; one of ours is promoted, and resolves for them, too.
func weFail(c *setting) {
	g := c.begin()
	c.one.waits(c.name, 700*time.Millisecond)
	c.generator.Expect(int64(1), "KS.REJECT", c.name, g.Token, "no such thing", "PX", "60000")
	c.one.says("timeout ") // not the message
	c.clear()
	for how, end := range map[string][]string{
		"gives up": {"KS.UNLOCK", c.name, ""},
		"lapses":   {"KS.EXTEND", c.name, "", "PX", "200"},
	} {
		c.t.Log("the generator " + how)
		g := c.begin()
		c.wait()
		c.one.waits(c.name, patience)
		end[2] = g.Token
		c.generator.Expect(int64(1), end...)
		c.promoted()
		c.one.has("the successor's")
		c.clear()
	}
	// Nobody of ours waits: the promise is free at once.
	g = c.begin()
	c.one.waits(c.name, 300*time.Millisecond)
	c.generator.Unlock(c.name, g)
	c.one.says("timeout ")
	c.two.generates(c.name, 60_000)
	c.two.tell("store 60000 theirs")
	c.two.says("stored")
	c.clear()
}

// theyFail: their error is nobody's news, their lock stays until it runs out.
func theyFail(c *setting) {
	c.one.generates(c.name, 6000)
	c.wait()
	c.two.waits(c.name, patience)
	c.one.tell("fail")
	c.one.says("failed")
	began := time.Now()
	c.promoted()
	stage.Took(c.t, "their lock of 6 s ran out, ours was promoted and resolved", began, 6*time.Second+100*time.Millisecond, 12*time.Second)
	c.two.has("the successor's")
	c.clear()
}

func lockLeftBehind(c *setting) {
	if c.kind.deletes {
		c.t.Skip("this kind deletes its lock")
	}
	for _, how := range []string{"DEL heals it", "it runs out"} {
		lock := map[string]int{"DEL heals it": 600_000, "it runs out": 6000}[how]
		c.one.generates(c.name, lock)
		c.one.tell("store 1 brief")
		c.one.says("stored")
		stage.Eventually(c.t, "the value is gone", func() bool { return c.Must(c.t, "EXISTS", c.name) == int64(0) })
		c.wait()
		c.generator.Expect(nil, "KS.MEMO", c.name, "NOWAIT")
		began := time.Now()
		if lock > 6000 {
			c.generator.ExpectFields(c.name, map[string]any{"held": int64(1), "value": int64(0)})
			c.Must(c.t, "DEL", stage.KeyOf(c.name, "lock"))
		}
		c.promoted()
		stage.Took(c.t, how+": ours was promoted and resolved", began, 6*time.Second, 12*time.Second)
		c.clear()
	}
}

// lockImmortal: nothing ends that hold but DEL; callers with WAIT get nil, the others wait for a value.
func lockImmortal(c *setting) {
	if c.kind.deletes {
		c.t.Skip("this kind renews in seconds")
	}
	for how, heal := range map[string]func(){
		"DEL of the lock": func() { c.Must(c.t, "DEL", stage.KeyOf(c.name, "lock")) },
		"SET and PUBLISH": func() { c.worker("the worker's", "EX", "60") },
	} {
		c.one.generates(c.name, 60_000)
		c.one.tell("renew 20000")
		c.one.says("renewed 1")
		left, _ := c.Must(c.t, "PTTL", stage.KeyOf(c.name, "lock")).(int64)
		c.t.Logf("their lock lives for %d years", left/1000/86400/365)
		if left < 1e12 {
			c.t.Errorf("their lock lives for %d ms only", left)
		}
		c.one.tell("store 1 brief")
		c.one.says("stored")
		stage.Eventually(c.t, "the value is gone", func() bool { return c.Must(c.t, "EXISTS", c.name) == int64(0) })
		c.stuck(left)
		began := time.Now()
		heal()
		if how == "SET and PUBLISH" {
			c.have("the worker's")
		} else {
			c.promoted()
		}
		stage.Took(c.t, "an immortal lock: "+how+" healed it", began, 1200*time.Millisecond, 6*time.Second)
		c.clear()
	}
}

// stuck has ours wait for a lock that does not end, and checks what those are told who don't wait for ever.
func (c *setting) stuck(left int64) {
	c.t.Helper()
	c.generator.Expect(nil, "KS.MEMO", c.name, "NOWAIT")
	c.generator.Expect(nil, "KS.MEMO", c.name, "WAIT", "300")
	fields := c.generator.Status(c.name)
	ttl, _ := fields["ttl"].(int64)
	if fields["held"] != int64(1) || left < 0 && ttl != left || left >= 0 && (ttl > left || ttl < left-600_000) {
		c.t.Errorf("KS.STATUS shows %v, the lock has %d ms", fields, left)
	}
	c.wait()
}

func lockWithoutTTL(c *setting) {
	token := c.one.generates(c.name, 0)
	c.two.waits(c.name, patience)
	c.stuck(-1)
	c.worker("the worker's")
	c.have("the worker's")
	c.two.has("the worker's")
	c.Must(c.t, "DEL", c.name)
	if c.Owner(c.t, c.name) != token {
		c.t.Error("their lock is gone")
	}
	c.wait()
	c.Must(c.t, "DEL", stage.KeyOf(c.name, "lock"))
	c.promoted()
	c.clear()
}

// EXPIRE with 0 deletes, and the renewal says that all is well.
func lockRenewedAway(c *setting) {
	c.one.generates(c.name, 600_000)
	c.wait()
	c.two.waits(c.name, patience)
	c.one.tell("renew 0")
	c.one.says("renewed 1")
	w := c.waiters[0]
	w.Granted()
	c.one.tell("store 60000 of one who lost it") // it is not checked; all take it
	c.one.says("stored")
	c.two.has("of one who lost it")
	for _, other := range c.waiters[1:] {
		stage.WantValue(c.t, other.Next(), "of one who lost it")
	}
	reply := c.generator.Call("KS.RESOLVE", c.name, w.Token, "the successor's", "EX", "60")
	if want := map[bool]int64{true: 0, false: 1}[c.kind.deletes]; reply != want {
		c.t.Errorf("the successor's resolve answers %#v, want %d: they delete whatever lock there is: %v", reply, want, c.kind.deletes)
	}
	c.clear()
}

// weForget: what they make from the old source is served, until it is forgotten in its turn.
func weForget(c *setting) {
	token := c.one.generates(c.name, 600_000)
	c.wait()
	c.generator.Expect(int64(0), "KS.FORGET", c.name)
	if c.Owner(c.t, c.name) != token {
		c.t.Error("their lock is gone")
	}
	c.AwaitLine(c.t, c.name, len(c.waiters))
	c.one.tell("store 60000 old")
	c.one.says("stored")
	c.have("old")
	c.generator.Expect(int64(1), "KS.FORGET", c.name)
	c.Must(c.t, "DEL", stage.KeyOf(c.name, "lock")) // one kind leaves it behind
	c.resolve(c.begin(), "new")
	stage.WantValue(c.t, c.generator.Call("KS.MEMO", c.name), "new")
	c.clear()
}

// weForgetOurs: theirs wait on, and have the value of who generates next.
func weForgetOurs(c *setting) {
	g := c.begin()
	c.one.waits(c.name, patience)
	c.wait()
	c.generator.Expect(int64(1), "KS.FORGET", c.name)
	c.waiters[0].Granted()
	c.generator.Expect(int64(0), "KS.RESOLVE", c.name, g.Token, "old")
	c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.waiters[0].Token, "new", "EX", "60")
	c.one.has("new")
	c.waiters = c.waiters[1:]
	c.have("new")
	c.clear()
}

// theyGenerateWhileStale: theirs don't know of stale values, ours are served one meanwhile.
func theyGenerateWhileStale(c *setting) {
	g := c.begin()
	c.generator.Expect(int64(1), "KS.RESOLVE", c.name, g.Token, "stale", "PX", "200", "STALE", "600000")
	stage.Eventually(c.t, "its TTL has ended", func() bool { return c.Must(c.t, "GET", c.name) == nil })
	c.one.generates(c.name, 600_000)
	c.two.waits(c.name, patience)
	for proxy := range c.Proxies {
		if got := fmt.Sprint(c.Client(c.t, proxy).Call("KS.MEMO", c.name)); got != "[stale stale]" {
			c.t.Fatalf("KS.MEMO answers %s", got)
		}
	}
	c.one.tell("store 60000 theirs")
	c.one.says("stored")
	c.two.has("theirs")
	stage.WantValue(c.t, c.generator.Call("KS.MEMO", c.name), "theirs")
	c.generator.Expect(int64(1), "KS.FORGET", c.name)
	c.clear()
}

// Their processes hear all values of a tag; nobody may take another's.
func otherNames(c *setting) {
	tag, _, _ := strings.Cut(c.name, ":")
	other := tag + ":other"
	g := c.begin()
	c.wait()
	c.one.waits(c.name, patience)
	c.two.generates(other, 60_000)
	c.two.tell("store 60000 another's")
	c.two.says("stored")
	stage.WantValue(c.t, c.generator.Call("KS.MEMO", other), "another's")
	c.AwaitLine(c.t, c.name, len(c.waiters))
	c.resolve(g, "ours")
	c.have("ours")
	c.one.has("ours")
	c.Must(c.t, "DEL", other, stage.KeyOf(other, "lock"))
	c.clear()
}

func strangers(c *setting) {
	// Before anyone asks.
	c.Must(c.t, "SET", c.name, "early")
	c.one.tell("ask %s 60000 1000", c.name)
	c.one.says("hit early")
	stage.WantValue(c.t, c.generator.Call("KS.MEMO", c.name), "early")
	c.Must(c.t, "DEL", c.name)

	// For a millisecond, while we generate: theirs take what was published, ours what there is.
	g := c.begin()
	c.wait()
	c.one.waits(c.name, patience)
	c.Must(c.t, "SET", c.name, "brief", "PX", "1")
	stage.Eventually(c.t, "it is gone", func() bool { return c.Must(c.t, "EXISTS", c.name) == int64(0) })
	c.Must(c.t, "PUBLISH", stage.KeyOf(c.name, "notif"), "brief")
	c.one.has("brief")
	c.AwaitLine(c.t, c.name, len(c.waiters))
	c.resolve(g, "ours")
	c.have("ours")
	c.Must(c.t, "DEL", c.name)

	// Without a message: theirs time out, ours look by themselves.
	c.one.generates(c.name, 60_000)
	c.wait()
	c.two.waits(c.name, 500*time.Millisecond)
	c.Must(c.t, "SET", c.name, "silent", "EX", "60")
	c.have("silent")
	c.two.says("timeout ")
	c.one.tell("store 60000 theirs")
	c.one.says("stored")
	stage.WantValue(c.t, c.generator.Call("KS.MEMO", c.name), "theirs")

	// Deleted when all is done: one generates, of theirs or ours.
	c.Must(c.t, "DEL", c.name, stage.KeyOf(c.name, "lock"))
	g = c.begin()
	c.one.waits(c.name, patience)
	c.resolve(g, "anew")
	c.one.has("anew")
	c.clear()
}
