package locks

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// setup says what a stage has. The zero value is one Redis and two proxies.
type setup struct {
	proxies int
	relayed bool     // each proxy reaches Redis through a link that can be broken
	redis   []string // further directives
	args    []string // further directives of all proxies
}

// stage is what tests play on.
type stage struct {
	*harness.Redis
	proxies []*harness.Proxy
	relays  []*harness.Relay // one for each proxy, if relayed

	t        testing.TB // that started it
	mu       sync.Mutex
	admin    *harness.Conn
	stranger *harness.Conn
}

func (o setup) start(t testing.TB) *stage {
	t.Helper()
	s := &stage{Redis: harness.StartRedis(t, o.redis...), t: t}
	s.welcomeStranger(t)
	if o.proxies == 0 {
		o.proxies = 2
	}
	s.proxies = make([]*harness.Proxy, o.proxies)
	if o.relayed {
		s.relays = make([]*harness.Relay, o.proxies)
	}
	for i := range s.proxies {
		upstream := s.URL()
		if o.relayed {
			s.relays[i] = harness.StartRelay(t, s.Addr)
			upstream = s.relays[i].URL()
		}
		s.proxies[i] = harness.StartProxyWith(t, harness.ProxyOptions{Upstream: upstream, Args: o.args})
	}
	for i := range s.proxies { // their inboxes are up when a call is served
		c := s.client(t, i)
		c.unlock("warm:up", c.lock("warm:up"))
		c.Close()
	}
	return s
}

// welcomeStranger connects somebody who listens to everything, as monitoring tools do.
func (s *stage) welcomeStranger(t testing.TB) {
	t.Helper()
	s.stranger = harness.Dial(s.t, "tcp", s.Addr)
	s.stranger.Send(t, harness.Command("PSUBSCRIBE", "*"))
	s.stranger.Reply(t)
}

// do asks Redis itself.
func (s *stage) do(t testing.TB, args ...string) any {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.admin != nil {
		if _, end := s.admin.Received(); end != harness.Open {
			s.admin = nil
		}
	}
	if s.admin == nil {
		s.admin = harness.Dial(s.t, "tcp", s.Addr)
	}
	return parse(t, s.admin.Do(t, args...))
}

// must is do for commands that change something.
func (s *stage) must(t testing.TB, args ...string) any {
	t.Helper()
	reply := s.do(t, args...)
	if words, refused := reply.(refusal); refused {
		t.Fatalf("%v: %s", args, words)
	}
	return reply
}

// words is do for replies that are lists of strings.
func (s *stage) words(t testing.TB, args ...string) []string {
	t.Helper()
	list, ok := s.must(t, args...).([]any)
	if !ok {
		t.Fatalf("%v answers no list", args)
	}
	all := make([]string, len(list))
	for i := range list {
		all[i], _ = list[i].(string)
	}
	return all
}

// freeze stops the process of a proxy until thaw is called, or the test ends.
func (s *stage) freeze(t testing.TB, proxy int) (thaw func()) {
	t.Helper()
	p := s.proxies[proxy]
	thaw = func() { p.Signal(t, syscall.SIGCONT) }
	t.Cleanup(thaw)
	p.Freeze(t)
	return thaw
}

// keyOf is where what belongs to name lives: README, names and keys.
func keyOf(name, what string) string {
	tag, rest, found := strings.Cut(name, ":")
	if found {
		rest = ":" + rest
	}
	return tag + "/" + what + rest
}

// line is the tokens that wait, in order.
func (s *stage) line(t testing.TB, name string) []string {
	t.Helper()
	return s.words(t, "LRANGE", keyOf(name, "lockwaiting"), "0", "-1")
}

func (s *stage) awaitLine(t testing.TB, name string, n int) []string {
	t.Helper()
	var line []string
	eventually(t, fmt.Sprintf("%d callers wait for %s", n, name), func() bool {
		line = s.line(t, name)
		return len(line) == n
	})
	return line
}

// owner is the token that has the lock; empty if it is free.
func (s *stage) owner(t testing.TB, name string) string {
	t.Helper()
	token, _ := s.must(t, "GET", keyOf(name, "lock")).(string)
	return token
}

func (s *stage) awaitOwner(t testing.TB, name, token string) {
	t.Helper()
	eventually(t, fmt.Sprintf("the lock %s is %q's", name, token), func() bool { return s.owner(t, name) == token })
}

func (s *stage) awaitFree(t testing.TB, name string) {
	t.Helper()
	eventually(t, "the lock "+name+" is free", func() bool { return s.owner(t, name) == "" })
}

// instanceOf is the name that the proxy of a waiter has on the wire.
func (s *stage) instanceOf(t testing.TB, w *waiter) string {
	t.Helper()
	place, _ := s.must(t, "HGET", keyOf(w.name, "lockwaitingset"), w.token).(string)
	parts := strings.Split(place, ":")
	if len(parts) < 3 {
		t.Fatalf("the place of %s is %q", w.token, place)
	}
	return parts[1]
}

// listeners counts who is subscribed to a proxy's inbox.
func (s *stage) listeners(t testing.TB, instance string) int64 {
	t.Helper()
	reply := s.must(t, "PUBSUB", "NUMSUB", "ks/inbox:"+instance).([]any)
	return reply[1].(int64)
}

func (s *stage) awaitListeners(t testing.TB, instance string, n int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d listen to the inbox of %s", n, instance), func() bool {
		return s.listeners(t, instance) == n
	})
}

// peer is a line of CLIENT LIST: field to value.
type peer map[string]string

func (s *stage) peers(t testing.TB) []peer {
	t.Helper()
	return parsePeers(s.must(t, "CLIENT", "LIST").(string))
}

func parsePeers(list string) []peer {
	var all []peer
	for l := range strings.Lines(list) {
		p := peer{}
		for field := range strings.FieldsSeq(l) {
			name, value, _ := strings.Cut(field, "=")
			p[name] = value
		}
		all = append(all, p)
	}
	return all
}

// own are the proxies' own connections, of one proxy if the stage is relayed
// and proxy is not negative.
func (s *stage) own(t testing.TB, proxy int) []peer {
	t.Helper()
	return slices.DeleteFunc(s.peers(t), func(p peer) bool {
		return p["name"] != "keysmith-proxy" || proxy >= 0 && s.relays[proxy].Link(p["addr"]) == nil
	})
}

// subscriptions are the proxy's own connections that subscribe: the inbox is subscribed to
// one channel; so is that for memo values, which has one more for each name somebody waits for.
func (s *stage) subscriptions(t testing.TB, proxy int, channels int) []peer {
	t.Helper()
	return slices.DeleteFunc(s.own(t, proxy), func(p peer) bool { return p["sub"] != strconv.Itoa(channels) })
}

func (s *stage) kill(t testing.TB, p peer) {
	t.Helper()
	if n := s.must(t, "CLIENT", "KILL", "ID", p["id"]); n != int64(1) {
		t.Fatalf("CLIENT KILL of %v answers %v", p, n)
	}
}

// named is the connection whose client has called itself name.
func (s *stage) named(t testing.TB, name string) peer {
	t.Helper()
	for _, p := range s.peers(t) {
		if p["name"] == name {
			return p
		}
	}
	t.Fatalf("no connection is named %s", name)
	return nil
}

// eventually waits until a state that no event tells is reached.
func eventually(t testing.TB, what string, reached func() bool) {
	t.Helper()
	deadline := time.Now().Add(harness.Patience)
	for !reached() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", harness.Patience, what)
		}
		time.Sleep(2 * time.Millisecond) // the next look
	}
}

// took logs what was measured beside what it should be (0: at once), and fails at
// the bound that even a busy machine keeps.
func took(t testing.TB, what string, since time.Time, expected, bound time.Duration) {
	t.Helper()
	d := time.Since(since)
	t.Logf("%s: %v (expected: up to about %v)", what, d.Round(100*time.Microsecond), expected)
	if d > bound {
		t.Errorf("%s took %v, want less than %v even here", what, d, bound)
	}
}
