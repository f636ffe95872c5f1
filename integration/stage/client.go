package stage

import (
	"strings"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// Client is a connection to a proxy.
type Client struct {
	*harness.Conn
	t  testing.TB
	id any // of its lane, as Redis counts
}

// Client connects to a proxy, counted modulo their number, and looks which lane it has got.
func (s *Stage) Client(t testing.TB, proxy int) *Client {
	t.Helper()
	c := Dial(t, s.Proxy(proxy))
	c.id = c.Call("CLIENT", "ID")
	return c
}

// Dial connects and asks nothing.
func Dial(t testing.TB, p *harness.Proxy) *Client {
	t.Helper()
	return &Client{Conn: p.Dial(t), t: t}
}

// Call sends a command and returns its reply.
func (c *Client) Call(args ...string) any {
	c.t.Helper()
	return Parse(c.t, c.Do(c.t, args...))
}

// TryCall is Do for other goroutines than the test's.
func (c *Client) TryCall(args ...string) (string, error) {
	if _, err := c.Write([]byte(harness.Command(args...))); err != nil {
		return "", err
	}
	return c.ReplyWithin(harness.Patience)
}

// Ask sends a command.
func (c *Client) Ask(args ...string) {
	c.t.Helper()
	c.Send(c.t, harness.Command(args...))
}

// Next waits for a reply.
func (c *Client) Next() any {
	c.t.Helper()
	return Parse(c.t, c.Reply(c.t))
}

// Expect sends a command and fails the test unless it answers so.
func (c *Client) Expect(reply any, args ...string) {
	c.t.Helper()
	if got := c.Call(args...); got != reply {
		c.t.Fatalf("%q answers %#v, want %#v", args, got, reply)
	}
}

// ExpectRefusal is Expect for an error that begins with the words given.
func (c *Client) ExpectRefusal(words string, args ...string) {
	c.t.Helper()
	got := c.Call(args...)
	if r, ok := got.(Refusal); !ok || !strings.HasPrefix(string(r), words) {
		c.t.Fatalf("%q answers %#v, want an error %q", args, got, words)
	}
}

// Lock gets the lock at once or fails the test.
func (c *Client) Lock(name string, options ...string) Grant {
	c.t.Helper()
	args := append([]string{"KS.LOCK", name}, options...)
	g, err := AsGrant(c.Call(args...))
	if err != nil {
		c.t.Fatalf("%q: %v", args, err)
	}
	return g
}

// Generate gets the promise at once or fails the test.
func (c *Client) Generate(name string, options ...string) Grant {
	c.t.Helper()
	args := append([]string{"KS.MEMO", name}, options...)
	g, err := AsGrant(c.Call(args...))
	if err != nil {
		c.t.Fatalf("%q: %v", args, err)
	}
	return g
}

// Unlock gives the lock back, or the promise, or fails the test.
func (c *Client) Unlock(name string, g Grant) {
	c.t.Helper()
	c.Expect(int64(1), "KS.UNLOCK", name, g.Token)
}

// Status reads the reply of KS.STATUS.
func (c *Client) Status(name string) map[string]any {
	c.t.Helper()
	list, _ := c.Call("KS.STATUS", name).([]any)
	if len(list) == 0 || len(list)%2 != 0 {
		c.t.Fatalf("KS.STATUS answers %#v", list)
	}
	all := map[string]any{}
	for i := 0; i < len(list); i += 2 {
		field, _ := list[i].(string)
		all[field] = list[i+1]
	}
	return all
}

// ExpectFields checks some of the fields of KS.STATUS.
func (c *Client) ExpectFields(name string, want map[string]any) {
	c.t.Helper()
	got := c.Status(name)
	for field, value := range want {
		if got[field] != value {
			c.t.Errorf("KS.STATUS %s: %s is %#v, want %#v", name, field, got[field], value)
		}
	}
}
