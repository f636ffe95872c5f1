package locks

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// documentedUsers are the ACL SETUSER commands of the README, in words.
func documentedUsers(t *testing.T) [][]string {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var users [][]string
	open := false
	for line := range strings.Lines(string(readme)) {
		switch {
		case strings.HasPrefix(line, "    ACL SETUSER "):
			users, open = append(users, strings.Fields(line)), true
		case open && strings.HasPrefix(line, "        "):
			last := &users[len(users)-1]
			*last = append(*last, strings.Fields(line)...)
		default:
			open = false
		}
	}
	return users
}

// guarded are two proxies with a user of their own in front of a Redis, and clients that are another user.
type guarded struct {
	redis   *harness.Redis
	proxies []*harness.Proxy
}

func (g *guarded) client(t *testing.T, proxy int) *harness.Conn {
	t.Helper()
	c := g.proxies[proxy].Dial(t)
	if got := c.Do(t, "AUTH", "app", "secret"); got != "+OK\r\n" {
		t.Fatal(got)
	}
	return c
}

// token is the first element of a grant; a refusal is returned as it is.
func token(reply string) string {
	words := strings.Split(reply, "\r\n")
	if words[0] != "*2" && words[0] != "*3" {
		return reply
	}
	if words[2] == "generate" {
		return words[4]
	}
	return words[2]
}

// lookups tells how often Redis was asked for the length of the waiting hash.
func (g *guarded) lookups(t *testing.T) string {
	t.Helper()
	_, rest, _ := strings.Cut(g.redis.Do(t, "INFO", "commandstats"), "cmdstat_hlen:calls=")
	calls, _, _ := strings.Cut(rest, ",")
	return calls
}

// everything calls each KS command once as a client would, over both proxies. It returns the first refusal.
func (g *guarded) everything(t *testing.T) string {
	t.Helper()
	a, b := g.client(t, 0), g.client(t, 1)
	defer a.Close()
	defer b.Close()
	g.redis.Do(t, "SCRIPT", "FLUSH")
	g.redis.Do(t, "DEL", "likes/lock:a", "likes/lock:s", "likes/lock:b", "likes/lock:c", "likes:m", "likes/lock:m", "likes/lockwaiting:a", "likes/lockwaitingset:a")
	refusal := ""
	do := func(c *harness.Conn, args ...string) string {
		reply := c.Do(t, args...)
		if refusal == "" && strings.HasPrefix(reply, "-") && !strings.HasPrefix(reply, "-MEMOERR") {
			refusal = reply
		}
		return reply
	}
	// waits sends a command that waits, and returns once it stands in line.
	waits := func(c *harness.Conn, queue string, args ...string) {
		if refusal != "" {
			return
		}
		before, _ := c.Received()
		length := g.redis.Do(t, "LLEN", queue) // one who left may still stand there
		c.Send(t, harness.Command(args...))
		stage.Eventually(t, "in line, or refused", func() bool {
			if got, _ := c.Received(); len(got) > len(before) {
				refusal = c.Reply(t)
				return true
			}
			return g.redis.Do(t, "LLEN", queue) > length
		})
	}
	held := token(do(a, "KS.LOCK", "likes:a", "PX", "60000"))
	do(a, "KS.STATUS", "likes:a")
	do(a, "KS.EXTEND", "likes:a", held, "PX", "50000")
	do(b, "KS.WAIT", "likes:a", "1")
	do(b, "KS.LOCK", "likes:a", "NOWAIT")
	do(b, "KS.LOCK", "likes:a", "WAIT", "1")
	waits(b, "likes/lockwaiting:a", "KS.LOCK", "likes:a")
	if refusal == "" { // who stands in line asks again when the lease becomes shorter
		asked := g.lookups(t)
		before, _ := b.Received()
		do(a, "KS.EXTEND", "likes:a", held, "PX", "40000")
		stage.Eventually(t, "asked again", func() bool {
			got, _ := b.Received()
			return refusal != "" || len(got) > len(before) || g.lookups(t) != asked
		})
		do(a, "KS.UNLOCK", "likes:a", held)
	}
	if refusal != "" {
		return refusal
	}
	if held = token(b.Reply(t)); strings.HasPrefix(held, "-") {
		return held
	}
	do(b, "KS.GUARD", "likes:a", held, "SET", "likes:x", "1")
	do(a, "KS.UNLOCK", "likes:a", held)

	for _, end := range []string{"KS.REJECT", "KS.RESOLVE"} {
		promise := token(do(a, "KS.MEMO", "likes:m"))
		if refusal != "" {
			return refusal
		}
		waits(b, "likes/lockwaiting:m", "KS.MEMO", "likes:m")
		do(a, end, "likes:m", promise, "v")
		if refusal != "" {
			return refusal
		}
		if reply := b.Reply(t); strings.HasPrefix(reply, "-NOPERM") {
			return reply
		}
	}
	do(a, "KS.FORGET", "likes:m") // the value
	revoked := token(do(a, "KS.MEMO", "likes:m", "SESSION"))
	waits(b, "likes/lockwaiting:m", "KS.MEMO", "likes:m")
	do(a, "KS.FORGET", "likes:m")
	if refusal != "" {
		return refusal
	}
	promise := token(b.Reply(t))
	if strings.HasPrefix(promise, "-") || promise == revoked {
		return promise
	}
	do(b, "KS.RESOLVE", "likes:m", promise, "v", "EX", "60", "STALE", "60000")
	do(b, "KS.FORGET", "likes:m")
	several := token(do(a, "KS.MLOCK", "2", "likes:c", "likes:b", "SESSION"))
	do(a, "KS.MUNLOCK", "2", "likes:b", "likes:c", several)
	do(a, "KS.LOCK", "likes:s", "SESSION")
	a.Close()
	do(b, "KS.LOCK", "likes:s", "WAIT", "5000")
	return refusal
}

// aclRules are the rules of the README: of those who may only lock, of those who work as well, and of the proxy.
type aclRules struct{ locker, worker, own []string }

func readmeRules(t *testing.T) aclRules {
	t.Helper()
	users := documentedUsers(t)
	if len(users) != 3 || users[0][2] != "app" || users[1][2] != "app" || users[2][2] != "keysmith-proxy" {
		t.Fatalf("the README has the users %q", users)
	}
	guard := []string{"+watch", "+multi", "+exec"}
	return aclRules{append(users[0], guard...), append(users[1], guard...), users[2]}
}

func (g *guarded) setUser(t *testing.T, rules []string) {
	t.Helper()
	if got := g.redis.Do(t, append([]string{"ACL", "SETUSER", rules[2], "reset"}, rules[3:]...)...); got != "+OK\r\n" {
		t.Fatalf("%q: %s", rules, got)
	}
}

func startGuarded(t *testing.T, own []string) *guarded {
	t.Helper()
	g := &guarded{redis: harness.StartRedis(t)}
	g.setUser(t, own)
	upstream := strings.Replace(g.redis.URL(), "redis://", "redis://keysmith-proxy:secret@", 1)
	for range 2 {
		g.proxies = append(g.proxies, harness.StartProxyWith(t, harness.ProxyOptions{Upstream: upstream, NoProbe: true}))
	}
	return g
}

func without(rules []string, i int) []string { return slices.Concat(rules[:i], rules[i+1:]) }

func TestTheACLRulesOfTheReadme(t *testing.T) {
	t.Parallel()
	rules := readmeRules(t)
	g := startGuarded(t, rules.own)
	for _, u := range [][]string{rules.locker, rules.worker} {
		g.setUser(t, u)
		g.redis.Do(t, "ACL", "LOG", "RESET")
		if refusal := g.everything(t); refusal != "" {
			t.Errorf("%q: %s", u, refusal)
		}
		if log := g.redis.Do(t, "ACL", "LOG"); log != "*0\r\n" {
			t.Errorf("%q: Redis has refused %s", u, log)
		}
	}
	// The first has nothing to spare.
	for i, rule := range rules.locker {
		if i < firstRight || rule == "+client|info" { // that is good to have
			continue
		}
		g.setUser(t, without(rules.locker, i))
		refusal := g.everything(t)
		if !strings.HasPrefix(refusal, "-NOPERM") {
			t.Errorf("without %s: %q", rule, refusal)
		}
	}
}

// firstRight is where, in the words of an ACL SETUSER of the README, the rights begin, after name and password.
const firstRight = 5

// Where the proxy's own user lacks a right, clients get what they ask for all the same, or are told what is wrong
// with the proxy.
func TestTheProxysOwnUserLacksARight(t *testing.T) {
	t.Parallel()
	rules := readmeRules(t)
	const groups = 6 // side by side: much of the time is spent on what nobody cleans up
	for group := range groups {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			g := startGuarded(t, rules.own)
			g.setUser(t, rules.worker)
			for i := firstRight + group; i < len(rules.own); i += groups {
				g.setUser(t, without(rules.own, i))
				refusal := g.everything(t)
				if refusal != "" && !strings.HasPrefix(refusal, "-KSUNAVAILABLE Redis refuses the proxy's own connection (NOPERM ") {
					t.Errorf("without %s: %q", rules.own[i], refusal)
				}
				g.setUser(t, rules.own)
				stage.Eventually(t, "all is well again", func() bool {
					c := g.client(t, 0)
					defer c.Close()
					return !strings.HasPrefix(c.Do(t, "KS.STATUS", "likes:a"), "-")
				})
			}
		})
	}
}

// With one right missing each call is served, or refused with nothing half done.
func TestAMissingRightLeavesNothingHalfDone(t *testing.T) {
	t.Parallel()
	s := stage.Setup{}.Start(t)
	rules := readmeRules(t).locker
	for i, rule := range rules {
		if i < firstRight || rule == "+client|info" { // that is good to have
			continue
		}
		s.Must(t, slices.Concat([]string{"ACL", "SETUSER", "app", "reset"}, without(rules, i)[3:])...)
		refusals := 0
		for _, d := range deeds {
			c := stage.Dial(t, s.Proxies[1]) // it stays: its end would change what is looked at
			c.Expect("OK", "AUTH", "app", "secret")
			name := newName()
			args := d.ready(t, s, name)
			s.Must(t, "SCRIPT", "FLUSH") // or EVAL is never used
			before := d.left(t, s, name)
			reply := c.Call(args...)
			words, refused := reply.(stage.Refusal)
			switch {
			case refused && strings.HasPrefix(string(words), "NOPERM "):
				refusals++
				if now := d.left(t, s, name); now != before {
					t.Errorf("without %s %q: refused, but Redis has changed from\n%s\nto\n%s", rule, args, before, now)
				}
			case !d.right(reply):
				t.Errorf("without %s %q: answered %#v", rule, args, reply)
			}
		}
		if refusals == 0 && rule != "+hlen" { // that is for who asks again
			t.Errorf("without %s nothing was refused", rule)
		}
	}
}
