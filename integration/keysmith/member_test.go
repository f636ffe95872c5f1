package keysmith

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// grant is a lock, or the promise to make a value (which shows no fence).
type grant struct {
	token string
	fence int64
}

// caller is a client of a proxy.
type caller struct {
	t testing.TB
	c *redis.Client
}

func (s *stage) caller(t testing.TB, proxy int) *caller {
	t.Helper()
	c := s.client(s.proxies[proxy%len(s.proxies)].Addr)
	t.Cleanup(func() { c.Close() })
	return &caller{t, c}
}

// do sends a command; nil replies are nil, errors are errors.
func (c *caller) do(args ...any) any {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	reply, err := c.c.Do(ctx, args...).Result()
	switch {
	case err == redis.Nil:
		return nil
	case err != nil:
		return err
	}
	return reply
}

// want sends a command and fails the test unless it answers so.
func (c *caller) want(reply any, args ...any) {
	c.t.Helper()
	if got := c.do(args...); got != reply {
		c.t.Fatalf("%q answers %#v, want %#v", args, got, reply)
	}
}

// lock gets the lock at once or fails the test.
func (c *caller) lock(name string, options ...any) grant {
	c.t.Helper()
	g, err := asGrant(c.do(append([]any{"KS.LOCK", name}, options...)...))
	if err != nil {
		c.t.Fatal(err)
	}
	return g
}

func (c *caller) unlock(name string, g grant) {
	c.t.Helper()
	c.want(int64(1), "KS.UNLOCK", name, g.token)
}

func asGrant(reply any) (grant, error) {
	if pair, ok := reply.([]any); ok && len(pair) == 2 {
		first, _ := pair[0].(string)
		switch second := pair[1].(type) {
		case int64:
			return grant{first, second}, nil
		case string:
			if first == "generate" {
				return grant{token: second}, nil
			}
		}
	}
	return grant{}, fmt.Errorf("%#v is no grant", reply)
}

// member is one who stands in line.
type member interface {
	who() string
	granted()          // waits for the lock
	silent(why string) // fails the test if it has the lock, or was answered
	release()
}

// waiter is a caller of a proxy who stands in line.
type waiter struct {
	*caller
	name   string
	token  string // under which it waits
	grant  grant
	answer chan any
}

// join sends KS.LOCK, or another command, and waits until the caller stands in line.
func (s *stage) join(t testing.TB, proxy int, name string, options ...any) *waiter {
	t.Helper()
	return s.joinBy(t, proxy, "KS.LOCK", name, options...)
}

func (s *stage) joinBy(t testing.TB, proxy int, command, name string, options ...any) *waiter {
	t.Helper()
	before := s.line(t, name)
	w := &waiter{caller: s.caller(t, proxy), name: name, answer: make(chan any, 1)}
	go func() {
		reply, err := w.c.Do(context.Background(), append([]any{command, name}, options...)...).Result()
		if err != nil {
			reply = err
		}
		w.answer <- reply
	}()
	line := s.awaitLine(t, name, len(before)+1)
	w.token = line[len(line)-1]
	return w
}

func (w *waiter) who() string { return w.token }

func (w *waiter) granted() {
	w.t.Helper()
	select {
	case reply := <-w.answer:
		g, err := asGrant(reply)
		if err != nil {
			w.t.Fatal(err)
		}
		if g.token != w.token {
			w.t.Fatalf("granted to %s, who waits is %s", g.token, w.token)
		}
		w.grant = g
	case <-time.After(harness.Patience):
		w.t.Fatalf("our %s was not granted within %v", w.token, harness.Patience)
	}
}

func (w *waiter) silent(why string) {
	w.t.Helper()
	select {
	case reply := <-w.answer:
		w.t.Fatalf("%s, but our waiter was answered %v", why, reply)
	default:
	}
}

func (w *waiter) release() {
	w.t.Helper()
	w.unlock(w.name, w.grant)
}

func (c *call) who() string { return c.id }

func (c *call) granted() {
	c.t.Helper()
	select {
	case <-c.got:
	case <-time.After(harness.Patience):
		c.t.Fatalf("KeySmith's %s was not granted within %v", c.id, harness.Patience)
	}
}

func (c *call) silent(why string) {
	c.t.Helper()
	select {
	case <-c.got:
		c.t.Fatalf("%s, but KeySmith's waiter has the lock", why)
	default:
	}
}

// loss waits until the call has learnt that it has the lock no more.
func (c *call) loss() {
	c.t.Helper()
	select {
	case <-c.lost:
	case <-time.After(harness.Patience):
		c.t.Fatalf("KeySmith's %s was not told within %v that it has lost the lock", c.id, harness.Patience)
	}
}

// inTurn lets everyone have the lock and give it back, and checks that they come in this order, with rising fences.
func (s *stage) inTurn(t testing.TB, name string, fence int64, members ...member) {
	t.Helper()
	for i, m := range members {
		m.granted()
		if owner := s.owner(t, name); owner != m.who() {
			t.Fatalf("%s was granted the lock, which is %q's", m.who(), owner)
		}
		if w, ours := m.(*waiter); ours {
			if w.grant.fence <= fence {
				t.Fatalf("the fence of %d is %d, after %d", i, w.grant.fence, fence)
			}
			fence = w.grant.fence
		}
		for _, later := range members[i+1:] {
			later.silent(fmt.Sprintf("it is the turn of %d", i))
		}
		m.release()
	}
}

// inAnyOrder lets all of ours have the lock and give it back, one at a time, in whatever order.
func (s *stage) inAnyOrder(t testing.TB, waiters ...*waiter) {
	t.Helper()
	type answer struct {
		*waiter
		reply any
	}
	answers := make(chan answer, len(waiters))
	for _, w := range waiters {
		go func() { answers <- answer{w, <-w.answer} }()
	}
	patience := time.After(harness.Patience)
	for n := range waiters {
		select {
		case a := <-answers:
			g, err := asGrant(a.reply)
			if owner := s.owner(t, a.name); err != nil || owner != g.token {
				t.Fatalf("the answer is %v, the lock is %q's", a.reply, owner)
			}
			a.unlock(a.name, g)
		case <-patience:
			t.Fatalf("%d of %d were granted within %v", n, len(waiters), harness.Patience)
		}
	}
}
