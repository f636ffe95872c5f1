package keysmith

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/keysmith/recorded"
)

// setup says what a stage has.
type setup struct {
	proxies int
	interop bool
	relayed bool     // each proxy reaches Redis through a link that can be broken
	args    []string // further directives of all proxies
}

// stage is a Redis, and proxies before it.
type stage struct {
	*harness.Redis
	setup
	proxies []*harness.Proxy
	relays  []*harness.Relay // one for each proxy, if relayed
	admin   *redis.Client
}

// lease is long enough to be of no concern.
const lease = 30 * time.Second

func (o setup) start(t testing.TB) *stage {
	t.Helper()
	s := &stage{Redis: harness.StartRedis(t), setup: o}
	s.admin = s.client(s.Addr)
	t.Cleanup(func() { s.admin.Close() })
	args := o.args
	if o.interop {
		args = append([]string{"--ks-interop", "keysmith"}, args...)
	}
	for range o.proxies {
		upstream := s.URL()
		if o.relayed {
			relay := harness.StartRelay(t, s.Addr)
			s.relays = append(s.relays, relay)
			upstream = relay.URL()
		}
		s.proxies = append(s.proxies, harness.StartProxyWith(t, harness.ProxyOptions{Upstream: upstream, Args: args}))
	}
	for i := range s.proxies { // its inbox is up when it serves a call
		c := s.caller(t, i)
		c.unlock("warm:up", c.lock("warm:up"))
	}
	return s
}

// onAndOff runs a test with ks-interop and without, each on a stage of its own.
func onAndOff(t *testing.T, o setup, test func(*testing.T, *stage)) {
	t.Parallel()
	for _, o.interop = range []bool{true, false} {
		o := o
		t.Run(map[bool]string{true: "interop on", false: "interop off"}[o.interop], func(t *testing.T) {
			t.Parallel()
			test(t, o.start(t))
		})
	}
}

// client is one connection, on which nothing is sent twice and that waits as long as it takes.
func (s *stage) client(addr string) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: addr, Protocol: 2, PoolSize: 1, MaxRetries: -1, DisableIdentity: true,
		ReadTimeout: -1, PoolTimeout: harness.Patience,
	})
}

// do asks Redis itself.
func (s *stage) do(t testing.TB, args ...any) any {
	t.Helper()
	reply, err := s.admin.Do(context.Background(), args...).Result()
	if err != nil && err != redis.Nil {
		t.Fatalf("%v: %v", args, err)
	}
	return reply
}

func split(name string) (root, rest string) {
	root, rest, _ = strings.Cut(name, ":")
	return root, rest
}

func keysOf(name string) recorded.Keys { return recorded.KeysOf(split(name)) }

// line is the ids that stand in line, in order.
func (s *stage) line(t testing.TB, name string) []string {
	t.Helper()
	var line []string
	for _, id := range s.do(t, "LRANGE", keysOf(name).Queue, 0, -1).([]any) {
		line = append(line, id.(string))
	}
	return line
}

func (s *stage) awaitLine(t testing.TB, name string, n int) (line []string) {
	t.Helper()
	harness.Eventually(t, fmt.Sprintf("%d wait for %s", n, name), func() bool {
		line = s.line(t, name)
		return len(line) == n
	})
	return line
}

// owner is the id that has the lock; empty if it is free.
func (s *stage) owner(t testing.TB, name string) string {
	t.Helper()
	id, _ := s.do(t, "GET", keysOf(name).Lock).(string)
	return id
}

func (s *stage) awaitOwner(t testing.TB, name, id string) {
	t.Helper()
	harness.Eventually(t, fmt.Sprintf("%s is %q's", name, id), func() bool { return s.owner(t, name) == id })
}

// awaitPatterns waits until the proxies listen to the hand-offs of n names; without ks-interop they listen to none.
func (s *stage) awaitPatterns(t testing.TB, n int64) {
	t.Helper()
	if !s.interop {
		n = 0
	}
	harness.Eventually(t, fmt.Sprintf("%d patterns", n), func() bool { return s.do(t, "PUBSUB", "NUMPAT") == n })
}

// onlyFences waits until nothing is left but fences, and what the proxies have agreed on.
func (s *stage) onlyFences(t testing.TB) {
	t.Helper()
	harness.Eventually(t, "only fences are left", func() bool { return len(s.leftovers(t)) == 0 })
	s.nothingForEver(t)
	s.awaitPatterns(t, 0)
	harness.Eventually(t, "nobody listens", func() bool {
		channels := s.do(t, "PUBSUB", "CHANNELS", "*/locknotif:*").([]any)
		return len(channels) == 0
	})
}

// withinAMinute checks that what is left after an abrupt end goes by itself.
func (s *stage) withinAMinute(t testing.TB) {
	t.Helper()
	for _, key := range s.leftovers(t) {
		if ttl := s.do(t, "PTTL", key).(int64); ttl > 60_000 {
			t.Errorf("%s stays for %d ms", key, ttl)
		}
	}
	s.nothingForEver(t)
}

func (s *stage) nothingForEver(t testing.TB) {
	t.Helper()
	for _, key := range s.do(t, "KEYS", "*").([]any) {
		if s.do(t, "PTTL", key) == int64(-1) {
			t.Errorf("%s would stay for ever", key)
		}
	}
}

func (s *stage) leftovers(t testing.TB) []string {
	t.Helper()
	var left []string
	for _, key := range s.do(t, "KEYS", "*").([]any) {
		if key := key.(string); !strings.Contains(key, "/fence") && key != "ks/config:tag-split" {
			left = append(left, key)
		}
	}
	slices.Sort(left)
	return left
}

// took logs what was measured beside what it should be, and fails at the bound that even a busy machine keeps.
func took(t testing.TB, what string, since time.Time, expected, bound time.Duration) {
	t.Helper()
	d := time.Since(since)
	t.Logf("%s: %v (expected: up to about %v)", what, d.Round(100*time.Microsecond), expected)
	if d > bound {
		t.Errorf("%s took %v, want less than %v even here", what, d, bound)
	}
}
