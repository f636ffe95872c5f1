package harness

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Memory returns a field of /proc/<pid>/status in bytes: VmHWM is the peak of
// resident memory, VmRSS what is resident now.
func (p *Process) Memory(t testing.TB, field string) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(status), "\n"+field+":")
	var kilobytes int64
	if !found {
		t.Fatalf("no %s in /proc/%d/status", field, p.Pid())
	}
	if _, err := fmt.Sscanf(rest, "%d kB", &kilobytes); err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}

// Files returns how many descriptors the process has open.
func (p *Process) Files(t testing.TB) int {
	t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

// Freeze stops the process with SIGSTOP and returns when none of its threads runs
// any more, which may be a moment after the signal. The test must send SIGCONT.
func (p *Process) Freeze(t testing.TB) {
	t.Helper()
	p.Signal(t, syscall.SIGSTOP)
	deadline := time.Now().Add(Patience)
	for !p.frozen(t) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not stop", p.name)
		}
		time.Sleep(100 * time.Microsecond) // the next look
	}
}

// frozen reports whether all threads are stopped.
func (p *Process) frozen(t testing.TB) bool {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.Pid()))
	if err != nil || len(threads) == 0 {
		t.Fatalf("no threads of %s: %v", p.name, err)
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if err != nil {
			return false // it ended
		}
		// The state follows the name, which is in brackets and may hold anything.
		_, state, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')'):]), " ")
		if !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return true
}
