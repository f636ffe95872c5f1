package harness

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// Proxy is a running keysmith-proxy.
type Proxy struct {
	*Process
	Port   int
	Addr   string // host:port, plain TCP
	Socket string // path of its Unix socket
}

// ProxyOptions says how a proxy is started; the zero value is the default
// configuration in front of nothing.
type ProxyOptions struct {
	Upstream string   // value of the upstream directive; empty: the directive is not given
	Args     []string // further directives as flags
	// Threads is GOMAXPROCS of the process; 0 leaves the choice to the proxy.
	Threads int
	// NoProbe skips waiting for an answer through the proxy: for upstreams
	// that are down. The proxy listens when StartProxyWith returns.
	NoProbe bool
}

// StartProxy starts the proxy in front of redis and waits until it answers;
// args are further directives as flags.
func StartProxy(t testing.TB, redis *Redis, args ...string) *Proxy {
	t.Helper()
	return StartProxyWith(t, ProxyOptions{Upstream: redis.URL(), Args: args})
}

// StartProxyWith starts the proxy as opts say and stops it, with a check for a
// clean exit, at the end of the test.
func StartProxyWith(t testing.TB, opts ProxyOptions) *Proxy {
	t.Helper()
	path := Binary(t)
	for {
		p := &Proxy{Port: FreePort(t), Socket: filepath.Join(tempDir(t), "proxy.sock")}
		p.Addr = "127.0.0.1:" + strconv.Itoa(p.Port)
		err := p.launch(t, path, opts)
		if err == nil {
			return p
		}
		if !portTaken(err) {
			t.Fatal(err)
		}
	}
}

func (p *Proxy) launch(t testing.TB, path string, opts ProxyOptions) error {
	args := []string{"--port", strconv.Itoa(p.Port), "--bind", "127.0.0.1", "--unixsocket", p.Socket}
	if opts.Upstream != "" {
		args = append(args, "--upstream", opts.Upstream)
	}
	env := []string{"GORACE=atexit_sleep_ms=20 " + os.Getenv("GORACE")} // it would be a second
	if opts.Threads > 0 {
		env = append(env, "GOMAXPROCS="+strconv.Itoa(opts.Threads))
	}
	p.Process = start(t, "keysmith-proxy", env, path, append(args, opts.Args...)...)
	process := p.Process
	process.talks = true
	t.Cleanup(func() { process.stop(t, 0) })
	probe := answers
	if opts.NoProbe {
		probe = accepts
	}
	return p.awaitReady(func() error { return probe("tcp", p.Addr) })
}

// Dial connects to the proxy over plain TCP.
func (p *Proxy) Dial(t testing.TB) *Conn {
	t.Helper()
	return Dial(t, "tcp", p.Addr)
}
