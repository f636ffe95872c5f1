package lockcmd

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

func startProxy(t *testing.T, args ...string) (*harness.Redis, *harness.Proxy) {
	t.Helper()
	redis := harness.StartRedis(t)
	return redis, harness.StartProxy(t, redis, args...)
}

// run is a keysmith-proxy lock under way.
type run struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *output
	stderr *output
	exited chan struct{} // closed when it has exited
}

// start runs keysmith-proxy lock with args, in a session of its own: no terminal of
// whoever runs the tests has a say. Its stdin is open until closeStdin.
func start(t *testing.T, p *harness.Proxy, args ...string) *run {
	t.Helper()
	return startAt(t, append([]string{"-p", strconv.Itoa(p.Port)}, args...))
}

func startAt(t *testing.T, args []string, env ...string) *run {
	t.Helper()
	r := &run{t: t, stdout: newOutput(), stderr: newOutput(), exited: make(chan struct{})}
	r.cmd = exec.Command(harness.Binary(t), append([]string{"lock"}, args...)...)
	r.cmd.Env = append(append(os.Environ(), "SHELL=/bin/sh", "GORACE=atexit_sleep_ms=20 "+os.Getenv("GORACE")), env...)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	r.cmd.Stdout, r.cmd.Stderr = r.stdout, r.stderr
	var err error
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		r.cmd.Wait() // returns when its command, too, has closed stdout and stderr
		r.stdout.end()
		r.stderr.end()
		close(r.exited)
	}()
	t.Cleanup(func() {
		r.stdin.Close()
		r.cmd.Process.Signal(syscall.SIGTERM)
		r.await()
	})
	return r
}

// await waits until it has exited, and so has its command.
func (r *run) await() {
	r.t.Helper()
	select {
	case <-r.exited:
	case <-time.After(harness.Patience):
		r.cmd.Process.Kill()
		r.t.Fatalf("%q has not exited; stdout %q, stderr %q", r.cmd.Args[2:], r.stdout, r.stderr)
	}
}

// want waits for the end and checks the exit status (as a shell has it), all of
// stdout, and that stderr contains said; "" means that stderr is empty.
func (r *run) want(status int, stdout, said string) {
	r.t.Helper()
	r.await()
	got := r.cmd.ProcessState.ExitCode()
	if got != status || r.stdout.String() != stdout || !strings.Contains(r.stderr.String(), said) || said == "" && r.stderr.String() != "" {
		r.t.Errorf("%q: status %d, stdout %.200q, stderr %q; want %d, %.200q, %q", r.cmd.Args[2:], got, r.stdout, r.stderr, status, stdout, said)
	}
}

func (r *run) closeStdin() { r.stdin.Close() }

func (r *run) signal(s os.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

// output is what a process has written so far.
type output struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{} // closed and replaced whenever more arrives, or the end
	ended   bool
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wake()
	return o.buf.Write(b)
}

func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.wake()
}

// wake expects the lock.
func (o *output) wake() {
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// await waits until s has been written.
func (o *output) await(t *testing.T, s string) {
	t.Helper()
	late := time.After(harness.Patience)
	for {
		o.mu.Lock()
		text, ended, changed := o.buf.String(), o.ended, o.changed
		o.mu.Unlock()
		if strings.Contains(text, s) {
			return
		}
		if ended {
			t.Fatalf("%q is all that was written, not %q", text, s)
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("%q after %v, but not %q", text, harness.Patience, s)
		}
	}
}

// awaitWaiters asks until n stand in line for name.
func awaitWaiters(t *testing.T, p *harness.Proxy, name string, n int) {
	t.Helper()
	want := fmt.Sprintf("$7\r\nwaiters\r\n:%d\r\n", n)
	c := p.Dial(t)
	defer c.Close()
	deadline := time.Now().Add(harness.Patience)
	for {
		status := c.Do(t, "KS.STATUS", name)
		if strings.Contains(status, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d waiters are not there: %q", n, status)
		}
	}
}

// holding starts a lock whose command is a cat that has told that it runs; it ends
// with stdin.
func holding(t *testing.T, p *harness.Proxy, args ...string) *run {
	t.Helper()
	r := start(t, p, append(args, "--", "sh", "-c", "echo in; exec cat")...)
	r.stdout.await(t, "in\n")
	return r
}

// take holds name until the connection that is returned is closed.
func take(t *testing.T, p *harness.Proxy, name string) *harness.Conn {
	t.Helper()
	c := p.Dial(t)
	if got := c.Do(t, "CLIENT", "SETNAME", "somebody"); got != "+OK\r\n" {
		t.Fatal(got)
	}
	if got := c.Do(t, "KS.LOCK", name, "SESSION"); !strings.HasPrefix(got, "*2\r\n") {
		t.Fatal(got)
	}
	return c
}
