package lockcmd

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// The hosts that share a lock go through a proxy each.
func TestOnThreeProxies(t *testing.T) {
	redis := harness.StartRedis(t)
	var proxies []*harness.Proxy
	for range 3 {
		p := harness.StartProxy(t, redis, "--ks-lock-ttl", "1500")
		awaitWaiters(t, p, "ready", 0)
		proxies = append(proxies, p)
	}
	t.Run("one runs at a time", func(t *testing.T) {
		journal := filepath.Join(t.TempDir(), "journal")
		const n = 9
		var runs []*run
		for i := range n {
			runs = append(runs, start(t, proxies[i%3], "several:a", "-c", "echo in >>"+journal+"; ls / >/dev/null; echo out >>"+journal))
		}
		for _, r := range runs {
			r.want(0, "", "")
		}
		got, err := os.ReadFile(journal)
		if want := strings.Repeat("in\nout\n", n); err != nil || string(got) != want {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("the next runs when the first has ended", func(t *testing.T) {
		first := start(t, proxies[0], "several:a", "-c", `echo "$KS_LOCK_FENCE"; cat; exit 3`)
		first.stdout.await(t, "\n")
		var waiting []*run
		for i, p := range proxies {
			start(t, p, "-n", "several:a", "true").want(1, "", "not granted: held by")
			start(t, p, "-w", "50", "several:a", "true").want(1, "", "not granted within 50ms: held by")
			waiting = append(waiting, start(t, p, "several:a", "-c", `echo "$KS_LOCK_FENCE"`))
			awaitWaiters(t, p, "several:a", i+1)
		}
		first.closeStdin()
		first.await()
		if status := first.cmd.ProcessState.ExitCode(); status != 3 {
			t.Errorf("exit status %d", status)
		}
		last := first.stdout.String()
		for _, r := range waiting {
			r.await()
			fence, _ := strconv.ParseInt(strings.TrimSpace(r.stdout.String()), 10, 64)
			before, _ := strconv.ParseInt(strings.TrimSpace(last), 10, 64)
			if fence <= before || before == 0 {
				t.Errorf("fence %q after %q", r.stdout, last)
			}
			last = r.stdout.String()
		}
	})
	t.Run("a killed holder frees the lock at once", func(t *testing.T) {
		var fastest time.Duration
		for i := range 5 { // a busy machine makes any of them late
			first := holding(t, proxies[0], "several:a")
			second := start(t, proxies[1], "several:a", "echo", "second")
			awaitWaiters(t, proxies[2], "several:a", 1)
			killed := time.Now()
			first.signal(syscall.SIGKILL)
			second.stdout.await(t, "second\n")
			if took := time.Since(killed); i == 0 || took < fastest {
				fastest = took
			}
			second.want(0, "second\n", "")
			first.closeStdin()
			first.await()
			if fastest < time.Second { // the lease is 1.5 s
				return
			}
		}
		t.Errorf("the next one ran %v after the kill, at best", fastest)
	})
	t.Run("a dead proxy ends its command, and the next runs elsewhere", func(t *testing.T) {
		first := holding(t, proxies[0], "several:a")
		second := start(t, proxies[1], "several:a", "echo", "second")
		awaitWaiters(t, proxies[2], "several:a", 1)
		proxies[0].Kill(t)
		first.want(128+15, "in\n", "lost the lock: the connection to the proxy broke (")
		second.want(0, "second\n", "")
	})
}
