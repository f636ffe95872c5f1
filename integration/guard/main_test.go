package guard

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// key is what the lock on name is stored at.
const (
	name  = "job:1"
	key   = "job/lock:1"
	token = "t"
	lost  = "-LOCKLOST the token does not hold the lock on 'job:1', so nothing was run: " +
		"get the lock again, and read again what the command was based on\r\n"
)

// guarded is the request that runs args under the lock.
func guarded(args ...string) []string { return append([]string{"KS.GUARD", name, token}, args...) }

// holding makes token hold the lock.
func holding(t testing.TB, redis *harness.Redis) {
	t.Helper()
	redis.Do(t, "SET", key, token, "PX", "600000")
}

// want fails the test unless a command answers so.
func want(t testing.TB, c *harness.Conn, reply string, args ...string) {
	t.Helper()
	if got := c.Do(t, args...); got != reply {
		t.Errorf("%.200q answers %.300q, want %.300q", args, got, reply)
	}
}

// wantPrefix is want for the beginning of a reply.
func wantPrefix(t testing.TB, c *harness.Conn, prefix string, args ...string) {
	t.Helper()
	if got := c.Do(t, args...); !strings.HasPrefix(got, prefix) {
		t.Errorf("%.200q answers %.300q, want %.300q…", args, got, prefix)
	}
}

// eventually waits for what has no event to wait for.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(harness.Patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
