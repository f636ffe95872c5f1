package clients

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// A library is a client library, or a way of using one.
type library struct {
	name    string
	threads int      // of the proxy that it talks to
	cases   []string // all of these must be reported, in any order
	// run reports each case as a subtest through on.report. It skips t when the
	// library is not there.
	run func(t *testing.T, on *server)
}

// The cases that every library for Redis goes through, and what it does with
// ours.
var (
	ordinary = []string{
		"setup", "values", "pipeline", "multi", "multi-aborted", "pubsub", "blocking", "script",
		"scan", "tracking", "large", "wrong-password", "killed", "restart",
	}
	keysmith = []string{"ks-lock", "ks-queue", "ks-memo", "ks-order", "ks-restart"}
	everyday = slices.Concat(ordinary, keysmith)
)

var libraries = []library{
	{"go-redis RESP2", 1, everyday, goRedis(2)},
	{"go-redis RESP3", 4, everyday, goRedis(3)},
	{"ioredis RESP2", 4, everyday, node("ioredis.mjs", 2)},
	{"ioredis RESP3", 1, everyday, node("ioredis.mjs", 3)},
	{"node-redis RESP2", 1, everyday, node("node-redis.mjs", 2)},
	{"node-redis RESP3", 4, everyday, node("node-redis.mjs", 3)},
	{"BullMQ", 4, []string{
		"setup", "jobs-once", "delayed", "retried", "priority", "flow", "killed", "restart", "ks-lock", "ks-memo",
	}, node("bullmq.mjs", 3)},
	{"redis-py", 1, everyday, python("redis_py.py")},
	{"redis-cli RESP2", 4, slices.Concat(everyday, []string{"monitor", "replica"}), redisCLI(2)},
	{"redis-cli RESP3", 1, slices.Concat(everyday, []string{"monitor", "replica"}), redisCLI(3)},
}

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

func TestLibrariesDoNotNoticeTheProxy(t *testing.T) {
	var results table
	t.Run("with", func(t *testing.T) {
		for _, l := range libraries {
			t.Run(l.name, func(t *testing.T) {
				t.Parallel()
				t.Run("direct", func(t *testing.T) { l.check(t, startDirect(t), &results) })
				t.Run("proxy", func(t *testing.T) { l.check(t, startProxied(t, l.threads), &results) })
			})
		}
	})
	t.Logf("client libraries, on Redis itself and through the proxy:\n%s", results.String())
}

// check runs the library on a server and fails for every case that is missing.
func (l *library) check(t *testing.T, on *server, results *table) {
	on.done = func(name string, passed bool) { results.set(l.name, name, on.ks, passed) }
	on.named = func(version string) { results.version(l.name, version) }
	l.run(t, on)
	if t.Skipped() {
		return
	}
	for _, name := range l.cases {
		if on.ks || !strings.HasPrefix(name, "ks-") {
			if !results.has(l.name, name, on.ks) {
				results.set(l.name, name, on.ks, false)
				t.Errorf("case %s is missing", name)
			}
		}
	}
}

// A server is what a library talks to: Redis itself, or the proxy before it.
type server struct {
	redis *harness.Redis
	addr  string // host:port
	port  int
	ks    bool // it is the proxy

	restart func() // kills Redis and starts it again, empty, on the same port

	named func(version string)
	done  func(name string, passed bool)
}

func startDirect(t *testing.T) *server {
	redis := harness.StartRedis(t)
	return &server{redis: redis, addr: redis.Addr, port: redis.Port, restart: func() { restart(t, redis) }}
}

func startProxied(t *testing.T, threads int) *server {
	s := startDirect(t)
	proxy := harness.StartProxyWith(t, harness.ProxyOptions{Upstream: s.redis.URL(), Threads: threads})
	s.addr, s.port, s.ks = proxy.Addr, proxy.Port, true
	return s
}

// restart belongs to the test that started redis, not to a subtest: what is
// started lives as long as its test.
func restart(t *testing.T, redis *harness.Redis) {
	redis.Kill(t)
	redis.Restart(t)
}

// report runs a case as a subtest and notes how it went.
func (s *server) report(t *testing.T, name string, body func(t *testing.T)) {
	s.done(name, t.Run(name, body))
}

// path is how scripts are told what they talk to.
func (s *server) path() string {
	if s.ks {
		return "proxy"
	}
	return "direct"
}

// A table collects outcomes: of each library, of each case, on both paths.
type table struct {
	mu       sync.Mutex
	versions map[string]string
	outcomes map[outcome]bool
}

type outcome struct {
	library, name string
	proxy         bool
}

func (r *table) version(library, version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.versions == nil {
		r.versions = map[string]string{}
	}
	r.versions[library] = version
}

func (r *table) set(library, name string, proxy, passed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.outcomes == nil {
		r.outcomes = map[outcome]bool{}
	}
	r.outcomes[outcome{library, name, proxy}] = passed
}

func (r *table) has(library, name string, proxy bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, reported := r.outcomes[outcome{library, name, proxy}]
	return reported
}

// String is the table as text: a block for each library, its cases in order.
func (r *table) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "client\tversion\tdirect\tproxy\tfailed or missing")
	for _, l := range libraries {
		direct, proxied, failed := r.count(l)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", l.name, r.versions[l.name], direct, proxied, strings.Join(failed, ", "))
	}
	w.Flush()
	return b.String()
}

// count sums up one library as "passed/all" for both paths.
func (r *table) count(l library) (direct, proxied string, failed []string) {
	var passed, all [2]int
	for _, name := range l.cases {
		for path, proxy := range []bool{false, true} {
			if !proxy && strings.HasPrefix(name, "ks-") {
				continue
			}
			all[path]++
			switch ok, reported := r.outcomes[outcome{l.name, name, proxy}]; {
			case ok:
				passed[path]++
			case reported:
				failed = append(failed, name+[]string{" (direct)", " (proxy)"}[path])
			}
		}
	}
	if passed == [2]int{} && failed == nil {
		return "skipped", "skipped", nil
	}
	sum := func(path int) string { return strconv.Itoa(passed[path]) + "/" + strconv.Itoa(all[path]) }
	return sum(0), sum(1), failed
}
