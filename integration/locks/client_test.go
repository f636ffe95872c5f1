package locks

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// client is a connection to a proxy.
type client struct {
	*harness.Conn
	t  testing.TB
	id any // of its lane, as Redis counts
}

func (s *stage) client(t testing.TB, proxy int) *client {
	t.Helper()
	c := dial(t, s.proxies[proxy])
	c.id = c.do("CLIENT", "ID")
	return c
}

// dial connects and asks nothing.
func dial(t testing.TB, p *harness.Proxy) *client {
	t.Helper()
	return &client{Conn: p.Dial(t), t: t}
}

// do sends a command and returns its reply.
func (c *client) do(args ...string) any {
	c.t.Helper()
	return parse(c.t, c.Do(c.t, args...))
}

// ask sends a command.
func (c *client) ask(args ...string) {
	c.t.Helper()
	c.Send(c.t, harness.Command(args...))
}

// next waits for a reply.
func (c *client) next() any {
	c.t.Helper()
	return parse(c.t, c.Reply(c.t))
}

// want sends a command and fails the test unless it answers so.
func (c *client) want(reply any, args ...string) {
	c.t.Helper()
	if got := c.do(args...); got != reply {
		c.t.Fatalf("%q answers %#v, want %#v", args, got, reply)
	}
}

// wantRefusal is want for an error that begins with the words given.
func (c *client) wantRefusal(words string, args ...string) {
	c.t.Helper()
	got := c.do(args...)
	if r, ok := got.(refusal); !ok || !strings.HasPrefix(string(r), words) {
		c.t.Fatalf("%q answers %#v, want an error %q", args, got, words)
	}
}

// lock gets the lock at once or fails the test.
func (c *client) lock(name string, options ...string) grant {
	c.t.Helper()
	args := append([]string{"KS.LOCK", name}, options...)
	g, err := asGrant(c.do(args...))
	if err != nil {
		c.t.Fatalf("%q: %v", args, err)
	}
	return g
}

// generate gets the promise at once or fails the test.
func (c *client) generate(name string, options ...string) grant {
	c.t.Helper()
	args := append([]string{"KS.MEMO", name}, options...)
	g, err := asGrant(c.do(args...))
	if err != nil {
		c.t.Fatalf("%q: %v", args, err)
	}
	return g
}

func (c *client) unlock(name string, g grant) {
	c.t.Helper()
	c.want(int64(1), "KS.UNLOCK", name, g.token)
}

// waiter is a client that stands in line.
type waiter struct {
	*client
	name  string
	token string // under which it waits
}

// join sends KS.LOCK and waits until the caller stands in line. Nobody else may
// come or go meanwhile.
func (s *stage) join(t testing.TB, proxy int, name string, options ...string) *waiter {
	t.Helper()
	return s.joinBy(s.client(t, proxy), "KS.LOCK", name, options...)
}

// joinMemo is join with KS.MEMO.
func (s *stage) joinMemo(t testing.TB, proxy int, name string, options ...string) *waiter {
	t.Helper()
	return s.joinBy(s.client(t, proxy), "KS.MEMO", name, options...)
}

func (s *stage) joinBy(c *client, command, name string, options ...string) *waiter {
	c.t.Helper()
	before := s.line(c.t, name)
	c.ask(append([]string{command, name}, options...)...)
	line := s.awaitLine(c.t, name, len(before)+1)
	return &waiter{c, name, line[len(line)-1]}
}

// granted waits for the grant, which must be under the token that waited.
func (w *waiter) granted() grant {
	w.t.Helper()
	g, err := asGrant(w.next())
	if err != nil {
		w.t.Fatal(err)
	}
	if g.token != w.token {
		w.t.Fatalf("granted to %s, who waits is %s", g.token, w.token)
	}
	return g
}

// unlocks gives the lock back.
func (w *waiter) unlocks() {
	w.t.Helper()
	w.unlock(w.name, grant{token: w.token})
}

// silent fails the test if the waiter has been answered.
func (w *waiter) silent(why string) {
	w.t.Helper()
	_, end := w.Drain(w.t)
	if reply, err := w.ReplyWithin(time.Nanosecond); err == nil || end != harness.Open {
		w.t.Fatalf("%s, but a waiter was answered %q, connection %v", why, reply, end)
	}
}

// inTurn lets everyone of the line have the lock and give it back, and checks
// that they come in this order with rising fences.
func inTurn(t testing.TB, waiters []*waiter, fence int64) {
	t.Helper()
	for i, w := range waiters {
		for _, later := range waiters[i+1:] {
			later.silent(fmt.Sprintf("it is the turn of waiter %d", i))
		}
		g := w.granted()
		if g.fence <= fence {
			t.Fatalf("waiter %d got the fence %d after %d", i, g.fence, fence)
		}
		fence = g.fence
		w.unlocks()
	}
}

// outcome is what one of many callers got.
type outcome struct {
	*client
	reply any
	err   error
}

// collect sends what each caller is answered, as it comes.
func collect(callers []*client) <-chan outcome {
	all := make(chan outcome, len(callers))
	for _, c := range callers {
		go func() {
			text, err := c.ReplyWithin(harness.Patience)
			o := outcome{client: c, err: err}
			if err == nil {
				o.reply, _, o.err = parseOne(text)
			}
			all <- o
		}()
	}
	return all
}
