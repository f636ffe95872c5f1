package memopeers

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

func TestMain(m *testing.M) {
	if addr := os.Getenv(goPeerEnv); addr != "" {
		runGoPeer(addr)
	}
	harness.Parallel("6")
	os.Exit(harness.Main(m))
}

// kind is a way of using redis-memolock.
type kind struct {
	name    string
	deletes bool // its lock, when it has stored the value
	command func(t *testing.T, addr string) *exec.Cmd
}

var kinds = []kind{
	{"Go", false, func(t *testing.T, addr string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), goPeerEnv+"="+addr)
		return cmd
	}},
	{"Python", true, func(t *testing.T, addr string) *exec.Cmd {
		host, port, _ := strings.Cut(addr, ":")
		return exec.CommandContext(t.Context(), harness.Python(t), "python/memolock.py", host, port)
	}},
}

// peer is a process that shares memo values with us.
type peer struct {
	t     *testing.T
	name  string // in the log
	input io.Writer
	lines <-chan string // what it prints; closed at its end
}

func startPeer(t *testing.T, k kind, addr, name string) *peer {
	t.Helper()
	cmd := k.command(t, addr)
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 16)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(output); s.Scan(); {
			lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		for range lines { // to its end
		}
		cmd.Wait()
	})
	p := &peer{t: t, name: k.name + " " + name, input: input, lines: lines}
	p.says("ready ")
	return p
}

// tell sends a command.
func (p *peer) tell(format string, args ...any) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.input, format+"\n", args...); err != nil {
		p.t.Fatal(err)
	}
}

// says waits for the next line and fails the test unless it begins so; what comes behind it is returned.
func (p *peer) says(begin string) string {
	p.t.Helper()
	select {
	case line, open := <-p.lines:
		if !open {
			p.t.Fatalf("%s has ended", p.name)
		}
		p.t.Logf("peer | %s | %.120s", p.name, line)
		rest, ok := strings.CutPrefix(line, begin)
		if !ok {
			p.t.Fatalf("%s prints %.300q, want %q", p.name, line, begin)
		}
		return rest
	case <-time.After(harness.Patience):
		p.t.Fatalf("%s has not printed %q within %v", p.name, begin, harness.Patience)
		return ""
	}
}

// generates has the peer ask for a key that nobody has; the lock lives for ms (0: for good).
func (p *peer) generates(key string, ms int) (token string) {
	p.t.Helper()
	p.tell("ask %s %d 1000", key, ms)
	return p.says("generates ")
}

// waits has the peer ask for a key that somebody generates.
func (p *peer) waits(key string, patience time.Duration) {
	p.t.Helper()
	p.tell("ask %s 60000 %d", key, patience.Milliseconds())
	p.says("waits")
}

// has waits until the peer prints the value.
func (p *peer) has(value string) {
	p.t.Helper()
	_, got, _ := strings.Cut(p.says("value "), " ")
	if got != value {
		p.t.Fatalf("%s has %.300q, want %.300q", p.name, got, value)
	}
}
