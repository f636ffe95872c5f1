package stage

import (
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// ShutDown ends Redis in an orderly way, with its data saved.
func (s *Stage) ShutDown(t testing.TB) {
	t.Helper()
	c := s.Dial(t)
	c.Send(t, harness.Command("SHUTDOWN", "SAVE"))
	s.WaitExit(t, harness.Patience)
}

// Again starts Redis anew, and the stranger comes back.
func (s *Stage) Again(t testing.TB) {
	t.Helper()
	s.Restart(t)
	s.welcomeStranger(t)
}

// Moved makes r the Redis of the stage. New connections of the proxies, which must be relayed, go there; those
// that stand stay where they are.
func (s *Stage) Moved(t testing.TB, r *harness.Redis) {
	t.Helper()
	s.mu.Lock()
	s.Redis, s.admin = r, nil
	s.mu.Unlock()
	s.welcomeStranger(t)
	for _, relay := range s.Relays {
		relay.Retarget(r.Addr)
	}
}

// LockAgain asks until a call is served: a new connection is closed without a
// word while Redis is away.
func (s *Stage) LockAgain(t testing.TB, proxy int, name string, options ...string) (*Client, Grant) {
	t.Helper()
	var c *Client
	var g Grant
	Eventually(t, "calls are served again", func() bool {
		c = Dial(t, s.Proxy(proxy))
		if _, err := c.Write([]byte(harness.Command(append([]string{"KS.LOCK", name}, options...)...))); err != nil {
			return false
		}
		reply, err := c.ReplyWithin(harness.Patience)
		if err != nil {
			return false
		}
		g, err = AsGrant(Parse(t, reply))
		return err == nil
	})
	return c, g
}
