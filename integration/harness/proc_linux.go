package harness

import (
	"fmt"
	"os"
	"strings"
	"testing"
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
