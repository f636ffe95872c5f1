package faults

import (
	"sync"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// Proxies is how many there are.
const Proxies = 3

// Field is one Redis, which remembers all it has acknowledged, and three proxies, each with links of its own to it.
type Field struct {
	Redis  *harness.Redis
	Relays [Proxies]*harness.Relay

	args    []string
	mu      sync.Mutex
	running [Proxies]*harness.Proxy
}

// Start starts Redis and the proxies; args are directives of the proxies.
func Start(t testing.TB, args ...string) *Field {
	t.Helper()
	f := &Field{Redis: harness.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always"), args: args}
	for i := range f.Relays {
		f.Relays[i] = harness.StartRelay(t, f.Redis.Addr)
		f.StartProxy(t, i)
	}
	return f
}

// StartProxy starts proxy i, also in the place of one that was killed.
func (f *Field) StartProxy(t testing.TB, i int) {
	t.Helper()
	p := harness.StartProxyWith(t, harness.ProxyOptions{Upstream: f.Relays[i].URL(), NoProbe: true, Args: f.args})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running[i] = p
}

// Proxy is the one that runs, or was the last to run, in place i.
func (f *Field) Proxy(i int) *harness.Proxy {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.running[i]
}
