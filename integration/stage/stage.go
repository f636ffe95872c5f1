package stage

import (
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// Setup says what a stage has. The zero value is one Redis and two proxies.
type Setup struct {
	Proxies int
	Relayed bool     // each proxy reaches Redis through a link that can be broken
	Redis   []string // further directives
	Args    []string // further directives of all proxies
}

// Stage is what tests play on.
type Stage struct {
	*harness.Redis
	Proxies []*harness.Proxy
	Relays  []*harness.Relay // one for each proxy, if relayed

	t        testing.TB // that started it
	mu       sync.Mutex
	admin    *harness.Conn
	stranger *harness.Conn
}

// Start starts Redis and the proxies, which have served a call when it returns.
func (o Setup) Start(t testing.TB) *Stage {
	t.Helper()
	s := &Stage{Redis: harness.StartRedis(t, o.Redis...), t: t}
	s.welcomeStranger(t)
	if o.Proxies == 0 {
		o.Proxies = 2
	}
	s.Proxies = make([]*harness.Proxy, o.Proxies)
	if o.Relayed {
		s.Relays = make([]*harness.Relay, o.Proxies)
	}
	for i := range s.Proxies {
		upstream := s.URL()
		if o.Relayed {
			s.Relays[i] = harness.StartRelay(t, s.Addr)
			upstream = s.Relays[i].URL()
		}
		s.Proxies[i] = harness.StartProxyWith(t, harness.ProxyOptions{Upstream: upstream, Args: o.Args})
	}
	for i := range s.Proxies { // their inboxes are up when a call is served
		c := s.Client(t, i)
		c.Unlock("warm:up", c.Lock("warm:up"))
		c.Close()
	}
	return s
}

// Proxy is one of the proxies; tests count on as if there were any number of them.
func (s *Stage) Proxy(i int) *harness.Proxy { return s.Proxies[i%len(s.Proxies)] }

// welcomeStranger connects somebody who listens to everything, as monitoring tools do.
func (s *Stage) welcomeStranger(t testing.TB) {
	t.Helper()
	s.stranger = harness.Dial(s.t, "tcp", s.Addr)
	s.stranger.Send(t, harness.Command("PSUBSCRIBE", "*"))
	s.stranger.Reply(t)
}

// Try asks Redis itself, past all proxies; an error reply is a Refusal.
func (s *Stage) Try(t testing.TB, args ...string) any {
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
	return Parse(t, s.admin.Do(t, args...))
}

// Must is Try for commands that change something.
func (s *Stage) Must(t testing.TB, args ...string) any {
	t.Helper()
	reply := s.Try(t, args...)
	if words, refused := reply.(Refusal); refused {
		t.Fatalf("%v: %s", args, words)
	}
	return reply
}

// Words is Must for replies that are lists of strings.
func (s *Stage) Words(t testing.TB, args ...string) []string {
	t.Helper()
	list, ok := s.Must(t, args...).([]any)
	if !ok {
		t.Fatalf("%v answers no list", args)
	}
	all := make([]string, len(list))
	for i := range list {
		all[i], _ = list[i].(string)
	}
	return all
}

// FreezeProxy stops the process of a proxy until thaw is called, or the test ends.
func (s *Stage) FreezeProxy(t testing.TB, proxy int) (thaw func()) {
	t.Helper()
	p := s.Proxies[proxy]
	thaw = func() { p.Signal(t, syscall.SIGCONT) }
	t.Cleanup(thaw)
	p.Freeze(t)
	return thaw
}

// Eventually waits until a state that no event tells is reached.
func Eventually(t testing.TB, what string, reached func() bool) {
	t.Helper()
	harness.Eventually(t, what, reached)
}

// Took logs what was measured beside what it should be (0: at once), and fails at
// the bound that even a busy machine keeps when it runs.
func Took(t testing.TB, what string, since time.Time, expected, bound time.Duration) {
	t.Helper()
	d := time.Since(since)
	t.Logf("%s: %v (expected: up to about %v)", what, d.Round(100*time.Microsecond), expected)
	if harness.Late(d, bound) {
		t.Errorf("%s took %v, want less than %v even here", what, d, bound)
	}
}
