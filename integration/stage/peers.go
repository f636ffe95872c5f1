package stage

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// Peer is a line of CLIENT LIST: field to value.
type Peer map[string]string

// Peers is CLIENT LIST.
func (s *Stage) Peers(t testing.TB) []Peer {
	t.Helper()
	return ParsePeers(s.Must(t, "CLIENT", "LIST").(string))
}

// ParsePeers reads a reply of CLIENT LIST.
func ParsePeers(list string) []Peer {
	var all []Peer
	for l := range strings.Lines(list) {
		p := Peer{}
		for field := range strings.FieldsSeq(l) {
			name, value, _ := strings.Cut(field, "=")
			p[name] = value
		}
		all = append(all, p)
	}
	return all
}

// Own are the proxies' own connections, of one proxy if the stage is relayed
// and proxy is not negative.
func (s *Stage) Own(t testing.TB, proxy int) []Peer {
	t.Helper()
	return slices.DeleteFunc(s.Peers(t), func(p Peer) bool {
		return p["name"] != "keysmith-proxy" || proxy >= 0 && s.Relays[proxy].Link(p["addr"]) == nil
	})
}

// Subscriptions are the proxy's own connections that subscribe: the inbox is subscribed to
// one channel; so is that for memo values, which has one more for each name somebody waits for.
func (s *Stage) Subscriptions(t testing.TB, proxy int, channels int) []Peer {
	t.Helper()
	return slices.DeleteFunc(s.Own(t, proxy), func(p Peer) bool { return p["sub"] != strconv.Itoa(channels) })
}

// IsOwn reports whether a link carries one of the proxies' own connections.
func (s *Stage) IsOwn(t testing.TB, l *harness.Link) bool {
	t.Helper()
	return slices.ContainsFunc(s.Own(t, -1), func(p Peer) bool { return p["addr"] == l.Addr })
}

// Named is the connection whose client has called itself name.
func (s *Stage) Named(t testing.TB, name string) Peer {
	t.Helper()
	for _, p := range s.Peers(t) {
		if p["name"] == name {
			return p
		}
	}
	t.Fatalf("no connection is named %s", name)
	return nil
}

// Lives reports whether Redis still has that connection.
func (s *Stage) Lives(t testing.TB, which Peer) bool {
	t.Helper()
	for _, p := range s.Peers(t) {
		if p["id"] == which["id"] {
			return true
		}
	}
	return false
}

// KillPeer closes a connection by CLIENT KILL.
func (s *Stage) KillPeer(t testing.TB, p Peer) {
	t.Helper()
	if n := s.Must(t, "CLIENT", "KILL", "ID", p["id"]); n != int64(1) {
		t.Fatalf("CLIENT KILL of %v answers %v", p, n)
	}
}

// AwaitClosed waits until a proxy has noticed the end of a connection: its lane
// is closed.
func (s *Stage) AwaitClosed(t testing.TB, c *Client) {
	t.Helper()
	id := fmt.Sprint(c.id)
	Eventually(t, "the lane of a client that is gone is closed", func() bool {
		return s.Must(t, "CLIENT", "LIST", "ID", id) == ""
	})
}

// Listeners counts who is subscribed to a proxy's inbox.
func (s *Stage) Listeners(t testing.TB, instance string) int64 {
	t.Helper()
	reply := s.Must(t, "PUBSUB", "NUMSUB", "ks/inbox:"+instance).([]any)
	return reply[1].(int64)
}

// AwaitListeners waits until n are subscribed to a proxy's inbox.
func (s *Stage) AwaitListeners(t testing.TB, instance string, n int64) {
	t.Helper()
	Eventually(t, fmt.Sprintf("%d listen to the inbox of %s", n, instance), func() bool {
		return s.Listeners(t, instance) == n
	})
}
