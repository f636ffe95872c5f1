package harness

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Patience bounds each wait for something that should happen at once. It is
// never waited out when all is well.
const Patience = 20 * time.Second

// broken matches what no server under test may ever log.
var broken = regexp.MustCompile(`panic|DATA RACE|fatal error:|REDIS BUG REPORT`)

// Process is a server started for a test.
type Process struct {
	name   string
	cmd    *exec.Cmd
	log    logBuffer
	talks  bool          // its log helps to understand why a test failed
	exited chan struct{} // closed when it has exited; code is valid from then on
	code   int
}

// start runs path with args and env added to the environment.
func start(t testing.TB, name string, env []string, path string, args ...string) *Process {
	t.Helper()
	p := &Process{name: name, exited: make(chan struct{})}
	p.cmd = exec.Command(path, args...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.WaitDelay = time.Second
	if err := startBound(p.cmd); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go p.wait()
	return p
}

func (p *Process) wait() {
	err := p.cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		p.code = exit.ExitCode()
	default:
		p.code = -1
	}
	close(p.exited)
}

// Pid is the process id, valid until the process was waited for.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Log returns what the process has written so far to stdout and stderr.
func (p *Process) Log() string { return p.log.String() }

// Signal sends sig; a process that is gone already is no error.
func (p *Process) Signal(t testing.TB, sig os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("signal %v to %s: %v", sig, p.name, err)
	}
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	p.Signal(t, syscall.SIGKILL)
	p.WaitExit(t, Patience)
}

// Dump ends the process, one written in Go, and returns what its goroutines were doing. It is all that the log ends with,
// so a test that fails does not show it.
func (p *Process) Dump(t testing.TB) string {
	t.Helper()
	before := len(p.Log())
	p.Signal(t, syscall.SIGQUIT)
	p.WaitExit(t, Patience)
	p.talks = false
	return p.Log()[before:]
}

// WaitExit waits for the end of the process and returns its exit code, -1 if
// a signal ended it.
func (p *Process) WaitExit(t testing.TB, within time.Duration) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(within):
		t.Fatalf("%s has not exited within %v; its log:\n%s", p.name, within, tail(p.Log()))
	}
	return p.code
}

// Running reports whether the process has not exited yet.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// stop ends a process that a test has left running and checks how it went.
func (p *Process) stop(t testing.TB, wantCode int) {
	t.Helper()
	if p.Running() {
		p.Signal(t, syscall.SIGTERM)
		select {
		case <-p.exited:
			if p.code != wantCode {
				t.Errorf("%s exits with %d after SIGTERM, want %d", p.name, p.code, wantCode)
			}
		case <-time.After(Patience):
			t.Errorf("%s has not exited %v after SIGTERM", p.name, Patience)
			p.Signal(t, syscall.SIGKILL)
			<-p.exited
		}
	}
	if found := broken.FindString(p.Log()); found != "" {
		t.Errorf("the log of %s contains %q", p.name, found)
	}
	if t.Failed() && p.talks {
		t.Logf("log of %s:\n%s", p.name, tail(p.Log()))
	}
}

// awaitReady calls try until it succeeds. It returns an error when the process
// exits or time is up before.
func (p *Process) awaitReady(try func() error) error {
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s exited with %d: %s", p.name, p.code, tail(p.Log()))
		case <-deadline.C:
			return fmt.Errorf("%s is not ready after %v: %w\n%s", p.name, Patience, err, tail(p.Log()))
		case <-time.After(2 * time.Millisecond): // the next try
		}
	}
}

// FreePort returns a TCP port that nobody listens on, and that no other test is
// given until this one ends. It lies below the range from which the kernel takes
// ports for outgoing connections, so that none of a test's own connections can
// take it before the server does.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 10000 + rand.IntN(20000)
		if !reserve(t, port) {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port found")
	return 0
}

// reserve keeps a port from all other tests, also those of other processes, that
// run at the same time: else one would take the other's server for its own. The
// lock on a file goes with the process, whatever becomes of it.
func reserve(t testing.TB, port int) bool {
	t.Helper()
	dir := filepath.Join(os.TempDir(), fmt.Sprint("keysmith-test-ports-", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(port)), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return false
	}
	t.Cleanup(func() { f.Close() })
	return true
}

// tempDir makes a directory with a path short enough for a Unix socket in it.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ks-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// tail cuts long logs down to what a reader wants to see.
func tail(log string) string {
	const most = 8 << 10
	if len(log) <= most {
		return log
	}
	return "[…]" + log[len(log)-most:]
}

// logBuffer collects the output of a process.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// portTaken tells a lost race for a port from a real failure.
func portTaken(err error) bool {
	return strings.Contains(strings.ToLower(err.Error()), "address already in use")
}
