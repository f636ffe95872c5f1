package lockcmd

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

func TestTheSecondRunsWhenTheFirstHasEnded(t *testing.T) {
	_, p := startProxy(t)
	first := holding(t, p, "jobs:a")
	second := start(t, p, "jobs:a", "echo", "second")
	awaitWaiters(t, p, "jobs:a", 1)
	if got := second.stdout.String(); got != "" {
		t.Fatalf("the second has written %q while the first held the lock", got)
	}
	first.closeStdin()
	first.want(0, "in\n", "")
	second.want(0, "second\n", "")
}

func TestManyRunOneAtATime(t *testing.T) {
	_, p := startProxy(t)
	journal := filepath.Join(t.TempDir(), "journal")
	const n = 8
	var runs []*run
	for range n {
		runs = append(runs, start(t, p, "jobs:a", "-c", "echo in >>"+journal+"; ls / >/dev/null; echo out >>"+journal))
	}
	for _, r := range runs {
		r.want(0, "", "")
	}
	got, err := os.ReadFile(journal)
	if want := strings.Repeat("in\nout\n", n); err != nil || string(got) != want {
		t.Errorf("%q, %v", got, err)
	}
}

func TestTheLockIsFreeWhenTheCommandHasEnded(t *testing.T) {
	_, p := startProxy(t)
	for range 10 { // it would be noticed if it were free only a moment later
		start(t, p, "-n", "jobs:a", "true").want(0, "", "")
	}
}

func TestTheExitStatusIsTheCommands(t *testing.T) {
	_, p := startProxy(t)
	start(t, p, "jobs:a", "--", "true").want(0, "", "")
	start(t, p, "jobs:a", "--", "sh", "-c", "echo out; echo err >&2; exit 3").want(3, "out\n", "err\n")
	start(t, p, "jobs:a", "-c", "exit 255").want(255, "", "")
	start(t, p, "jobs:a", "-c", "kill -KILL $$").want(128+9, "", "")
	start(t, p, "jobs:a", "-c", "kill -SEGV $$").want(128+11, "", "")
	awaitWaiters(t, p, "jobs:a", 0)
	start(t, p, "-n", "jobs:a", "true").want(0, "", "")
}

func TestWhatCannotRunHasTheExitStatusOfAShell(t *testing.T) {
	_, p := startProxy(t)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("#!/nonexistent/interpreter\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	take(t, p, "jobs:a") // nobody waits for a lock only to be told this
	start(t, p, "jobs:a", "no-such-command").want(127, "", "no-such-command")
	start(t, p, "jobs:a", "/no/such/command").want(127, "", "/no/such/command")
	start(t, p, "jobs:a", plain).want(126, "", plain)
	start(t, p, "jobs:b", bad).want(127, "", bad)
	start(t, p, "-n", "jobs:b", "true").want(0, "", "")
}

func TestALockThatIsNotGrantedRunsNothing(t *testing.T) {
	_, p := startProxy(t)
	holder := take(t, p, "jobs:a")
	owner := "held by " + holder.LocalAddr().String() + " somebody\n"
	start(t, p, "-w", "50", "jobs:a", "echo", "in").want(1, "", "keysmith-proxy lock: jobs:a: not granted within 50ms: "+owner)
	start(t, p, "-n", "jobs:a", "echo", "in").want(1, "", "keysmith-proxy lock: jobs:a: not granted: "+owner)
	start(t, p, "-n", "-E", "75", "jobs:a", "echo", "in").want(75, "", "not granted")
	start(t, p, "-q", "-E", "0", "-w", "10ms", "jobs:a", "echo", "in").want(0, "", "")
	awaitWaiters(t, p, "jobs:a", 0)
	start(t, p, "-n", "--db", "1", "jobs:a", "echo", "in").want(0, "in\n", "")
	start(t, p, "-n", strings.Repeat("x", 70000), "echo", "in").want(1, "", "ERR invalid lock name")
}

func TestWithoutAWaitTheProxysOwnHolds(t *testing.T) {
	_, p := startProxy(t, "--ks-lock-wait", "50")
	take(t, p, "jobs:a")
	start(t, p, "jobs:a", "echo", "in").want(1, "", "not granted: held by")
}

func TestAKilledHolderFreesTheLockAtOnce(t *testing.T) {
	_, p := startProxy(t)
	first := holding(t, p, "jobs:a")
	second := start(t, p, "jobs:a", "echo", "second")
	awaitWaiters(t, p, "jobs:a", 1)
	killed := time.Now()
	first.signal(syscall.SIGKILL)
	second.stdout.await(t, "second\n")
	took := time.Since(killed)
	t.Logf("the next one ran %v after the kill", took)
	if took > 10*time.Second { // the lease is 30 s
		t.Errorf("the next one ran %v after the kill", took)
	}
	second.want(0, "second\n", "")
	if runtime.GOOS != "linux" {
		first.closeStdin()
	}
	// Its command is told: stdin is open still, and stdout ends with it.
	first.want(-1, "in\n", "")
}

func TestASignalEndsTheWaitAndLeavesNoPlaceInLine(t *testing.T) {
	_, p := startProxy(t)
	take(t, p, "jobs:a")
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		r := start(t, p, "jobs:a", "echo", "in")
		awaitWaiters(t, p, "jobs:a", 1)
		r.signal(s)
		r.want(128+int(s), "", "")
		awaitWaiters(t, p, "jobs:a", 0)
	}
}

func TestASignalIsPassedOnAndTheCommandWaitedFor(t *testing.T) {
	_, p := startProxy(t)
	for name, s := range map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "QUIT": syscall.SIGQUIT} {
		r := start(t, p, "jobs:a", "-c", "trap 'echo "+name+"' "+name+"; echo in; until [ \"$x\" = end ]; do read x; done; exit 7")
		r.stdout.await(t, "in\n")
		r.signal(s)
		r.stdout.await(t, name+"\n")
		start(t, p, "-n", "-q", "jobs:a", "true").want(1, "", "") // it has outlived it with the lock
		fmt.Fprintln(r.stdin, "end")
		r.want(7, "in\n"+name+"\n", "")
	}
	r := holding(t, p, "jobs:a")
	r.signal(syscall.SIGTERM)
	r.want(128+15, "in\n", "")
}

func TestASignalReachesAllOfAPipeline(t *testing.T) {
	_, p := startProxy(t)
	r := start(t, p, "jobs:a", "-c", "(echo in; exec cat) | cat; echo never")
	r.stdout.await(t, "in\n")
	r.signal(syscall.SIGTERM)
	r.want(128+15, "in\n", "") // await: nobody has stdout open any more
}

func TestASignalIgnoredBeforeStaysIgnored(t *testing.T) {
	_, p := startProxy(t)
	r := start(t, p, "jobs:a", "nohup", "sh", "-c", "echo") // nohup is there
	r.closeStdin()
	r.want(0, "\n", "")
	path := harness.Binary(t)
	outer := startAt(t, []string{
		"-p", strconv.Itoa(p.Port), "outer", "-c",
		"trap '' HUP; exec " + path + " lock -p " + strconv.Itoa(p.Port) + " jobs:a -c 'echo in; exec cat'",
	})
	outer.stdout.await(t, "in\n")
	outer.signal(syscall.SIGHUP)
	fmt.Fprintln(outer.stdin, "alive")
	outer.stdout.await(t, "alive\n")
	outer.closeStdin()
	outer.want(0, "in\nalive\n", "")
}

func TestWhereThereIsNoProxyNothingRuns(t *testing.T) {
	addr := harness.FreePort(t)
	startAt(t, []string{"-p", strconv.Itoa(addr), "jobs:a", "echo", "in"}).want(1, "",
		fmt.Sprintf("keysmith-proxy lock: jobs:a: can't reach keysmith-proxy: dial tcp 127.0.0.1:%d: connect: connection refused", addr))
	redis := harness.StartRedis(t)
	startAt(t, []string{"-p", strconv.Itoa(redis.Port), "jobs:a", "echo", "in"}).want(1, "", "is this Redis itself, not keysmith-proxy?")
	p := harness.StartProxyWith(t, harness.ProxyOptions{Upstream: fmt.Sprintf("redis://127.0.0.1:%d", addr), NoProbe: true})
	start(t, p, "jobs:a", "echo", "in").want(1, "", "the proxy has closed the connection; can it reach its Redis?")
}

func TestAnUnixSocketAndAPasswordDo(t *testing.T) {
	redis := harness.StartRedis(t, "--user", "default", "on", ">secret", "~*", "&*", "+@all")
	p := harness.StartProxyWith(t, harness.ProxyOptions{Upstream: "redis://:secret@" + redis.Addr, NoProbe: true})
	at := []string{"-s", p.Socket, "jobs:a", "echo", "in"}
	startAt(t, at, "REDISCLI_AUTH=secret").want(0, "in\n", "")
	startAt(t, append([]string{"--user", "default", "--pass", "secret"}, at...)).want(0, "in\n", "")
	startAt(t, at).want(1, "", "NOAUTH")
	startAt(t, at, "REDISCLI_AUTH=wrong").want(1, "", "WRONGPASS")
}

func TestStdinAndStdoutPassThroughAsTheyAre(t *testing.T) {
	_, p := startProxy(t)
	data := make([]byte, 1<<20)
	rand.Read(data)
	r := start(t, p, "jobs:a", "cat")
	if _, err := r.stdin.Write(data); err != nil {
		t.Fatal(err)
	}
	r.closeStdin()
	r.await()
	if !bytes.Equal([]byte(r.stdout.String()), data) || r.stderr.String() != "" {
		t.Errorf("%d bytes came back, and %q", len(r.stdout.String()), r.stderr)
	}
}

func TestTheCommandKnowsItsLock(t *testing.T) {
	redis, p := startProxy(t)
	r := start(t, p, "jobs:a", "-c", `printf '%s|%s|%s|' "$KS_LOCK_NAME" "$KS_LOCK_TOKEN" "$KS_LOCK_FENCE"; echo; exec cat`)
	r.stdout.await(t, "|\n")
	fields := strings.Split(r.stdout.String(), "|")
	if got, want := redis.Do(t, "GET", "jobs/lock:a"), fmt.Sprintf("$%d\r\n%s\r\n", len(fields[1]), fields[1]); fields[0] != "jobs:a" || got != want {
		t.Errorf("%q; the lock's value is %q", fields, got)
	}
	c := p.Dial(t)
	if got := c.Do(t, "KS.STATUS", "jobs:a"); !strings.Contains(got, "fence\r\n:"+fields[2]+"\r\n") || !strings.Contains(got, " lock@") {
		t.Errorf("%q; the status is %q", fields, got)
	}
}

func TestALossIsToldAndEndsTheCommand(t *testing.T) {
	lost := func(t *testing.T, lose func(*harness.Redis, *harness.Proxy), says string) {
		redis, p := startProxy(t, "--ks-lock-ttl", "1000")
		r := holding(t, p, "jobs:a")
		lose(redis, p)
		r.want(128+15, "in\n", "keysmith-proxy lock: jobs:a: lost the lock: "+says)
		if !strings.HasSuffix(r.stderr.String(), "; sending TERM to the command\n") {
			t.Errorf("%q", r.stderr)
		}
	}
	t.Run("the key is deleted", func(t *testing.T) {
		lost(t, func(redis *harness.Redis, _ *harness.Proxy) { redis.Do(t, "DEL", "jobs/lock:a") }, "it was deleted, or could not be renewed in time")
	})
	t.Run("Redis hangs", func(t *testing.T) {
		lost(t, func(redis *harness.Redis, _ *harness.Proxy) {
			redis.Signal(t, syscall.SIGSTOP)
			t.Cleanup(func() { redis.Signal(t, syscall.SIGCONT) })
		}, "it was deleted, or could not be renewed in time")
	})
	t.Run("the proxy is killed", func(t *testing.T) {
		lost(t, func(_ *harness.Redis, p *harness.Proxy) { p.Kill(t) }, "the connection to the proxy broke (")
	})
}

func TestALossMayBeOutlived(t *testing.T) {
	redis, p := startProxy(t, "--ks-lock-ttl", "1000")
	kept := start(t, p, "--on-loss", "keep", "jobs:a", "-c", "echo in; cat; exit 3")
	kept.stdout.await(t, "in\n")
	redis.Do(t, "DEL", "jobs/lock:a")
	kept.stderr.await(t, "lost the lock: it was deleted, or could not be renewed in time; the command runs on without it (--on-loss keep)\n")
	start(t, p, "-n", "jobs:a", "true").want(0, "", "")
	fmt.Fprintln(kept.stdin, "alive")
	kept.closeStdin()
	kept.want(3, "in\nalive\n", "lost the lock")

	killed := start(t, p, "--on-loss", "kill", "jobs:a", "-c", "trap '' TERM; echo in; exec cat")
	killed.stdout.await(t, "in\n")
	redis.Do(t, "DEL", "jobs/lock:a")
	killed.want(128+9, "in\n", "; killing the command (--on-loss kill)\n")
}

func TestALossThatNobodyHasToldIsSeenAtTheEnd(t *testing.T) {
	redis, p := startProxy(t) // renews every 10 s
	r := holding(t, p, "jobs:a")
	redis.Do(t, "DEL", "jobs/lock:a")
	r.closeStdin()
	r.want(0, "in\n", "keysmith-proxy lock: jobs:a: lost the lock before the command ended")
}
