package integration

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

var (
	diffSelf = flag.Bool("diff.self", false,
		"compare two redis-servers without a proxy: proves that the comparison itself is exact")
	diffDuration = flag.Duration("diff.duration", 5*time.Second,
		"how long each variant of the random streams runs")
	diffSeed = flag.Uint64("diff.seed", 1,
		"seed of the random streams; with -diff.duration=0 exactly this stream runs; 0: a new one each time")
	diffPatience = flag.Duration("diff.patience", harness.Patience,
		"how long the proxy may take to show what Redis has shown")
	large = flag.Bool("large", false, "use the full sizes: values of 512 MB, 4000 idle clients")
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// variant is a way to run the proxy.
type variant struct {
	name    string
	threads int
}

// variants: one scheduler thread shows what depends on goroutines taking turns,
// several show what depends on them running at once.
var variants = []variant{{"GOMAXPROCS=1", 1}, {"GOMAXPROCS=4", 4}}

// startProxy runs the proxy in front of redis as v says.
func (v variant) startProxy(t testing.TB, redis *harness.Redis, args ...string) *harness.Proxy {
	t.Helper()
	return harness.StartProxyWith(t, harness.ProxyOptions{
		Upstream: redis.URL(), Threads: v.threads, Args: args,
	})
}

// eachVariant runs test once for each way to run the proxy.
func eachVariant(t *testing.T, test func(t *testing.T, v variant)) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) { test(t, v) })
	}
}

// startPair starts two redis-servers, with a proxy in front of the second.
func startPair(t testing.TB, v variant, config ...string) *pair {
	t.Helper()
	first, second := harness.StartRedis(t, config...), harness.StartRedis(t, config...)
	addr := second.Addr
	if !*diffSelf {
		addr = v.startProxy(t, second).Addr
	}
	return newPair(t, first, second, dialer("tcp", addr))
}

// newPair compares direct with what connect reaches, behind which is proxied.
func newPair(t testing.TB, direct, proxied *harness.Redis, connect func(testing.TB) *harness.Conn) *pair {
	t.Helper()
	probe := connect(t)
	t.Cleanup(func() { probe.Close() })
	help := ""
	if !*diffSelf {
		help = probe.Do(t, "KS.HELP")
		if help[0] != '*' {
			t.Fatalf("KS.HELP answers %q", help)
		}
	}
	return &pair{
		direct:   newSide(t, direct, dialer("tcp", direct.Addr)),
		proxied:  newSide(t, proxied, connect),
		probe:    probe,
		patience: *diffPatience,
		allowed:  newAllowances(help),
	}
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/(1<<20)) }
