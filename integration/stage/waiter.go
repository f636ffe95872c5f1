package stage

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// Waiter is a client that stands in line.
type Waiter struct {
	*Client
	Name  string
	Token string // under which it waits
}

// Join sends KS.LOCK and waits until the caller stands in line. Nobody else may
// come or go meanwhile.
func (s *Stage) Join(t testing.TB, proxy int, name string, options ...string) *Waiter {
	t.Helper()
	return s.JoinBy(s.Client(t, proxy), "KS.LOCK", name, options...)
}

// JoinMemo is Join with KS.MEMO.
func (s *Stage) JoinMemo(t testing.TB, proxy int, name string, options ...string) *Waiter {
	t.Helper()
	return s.JoinBy(s.Client(t, proxy), "KS.MEMO", name, options...)
}

// JoinBy is Join by a connection and a command of the test's choice.
func (s *Stage) JoinBy(c *Client, command, name string, options ...string) *Waiter {
	c.t.Helper()
	before := s.Line(c.t, name)
	c.Ask(append([]string{command, name}, options...)...)
	w := &Waiter{Client: c, Name: name}
	Eventually(c.t, "one more waits for "+name, func() bool {
		line := s.Line(c.t, name)
		if len(line) > 0 && !slices.Contains(before, line[len(line)-1]) { // others may leave meanwhile
			w.Token = line[len(line)-1]
		}
		return w.Token != ""
	})
	return w
}

// Granted waits for the grant, which must be under the token that waited.
func (w *Waiter) Granted() Grant {
	w.t.Helper()
	g, err := AsGrant(w.Next())
	if err != nil {
		w.t.Fatal(err)
	}
	if g.Token != w.Token {
		w.t.Fatalf("granted to %s, who waits is %s", g.Token, w.Token)
	}
	return g
}

// Unlocks gives the lock back.
func (w *Waiter) Unlocks() {
	w.t.Helper()
	w.Unlock(w.Name, Grant{Token: w.Token})
}

// Silent fails the test if the waiter has been answered.
func (w *Waiter) Silent(why string) {
	w.t.Helper()
	_, end := w.Drain(w.t)
	if reply, err := w.ReplyWithin(time.Nanosecond); err == nil || end != harness.Open {
		w.t.Fatalf("%s, but a waiter was answered %q, connection %v", why, reply, end)
	}
}

// InTurn lets everyone of the line have the lock and give it back, and checks
// that they come in this order with rising fences.
func InTurn(t testing.TB, waiters []*Waiter, fence int64) {
	t.Helper()
	for i, w := range waiters {
		for _, later := range waiters[i+1:] {
			later.Silent(fmt.Sprintf("it is the turn of waiter %d", i))
		}
		g := w.Granted()
		if g.Fence <= fence {
			t.Fatalf("waiter %d got the fence %d after %d", i, g.Fence, fence)
		}
		fence = g.Fence
		w.Unlocks()
	}
}

// Outcome is what one of many callers got.
type Outcome struct {
	*Client
	Reply any
	Err   error
}

// Collect sends what each caller is answered, as it comes.
func Collect(callers []*Client) <-chan Outcome {
	all := make(chan Outcome, len(callers))
	for _, c := range callers {
		go func() {
			text, err := c.ReplyWithin(harness.Patience)
			o := Outcome{Client: c, Err: err}
			if err == nil {
				o.Reply, _, o.Err = ParseOne(text)
			}
			all <- o
		}()
	}
	return all
}
