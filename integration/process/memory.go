package process

import (
	"fmt"
	"os"
	"strings"
)

// Memory is what a process holds, in bytes: resident, and its proportional share of it (pages of the
// program file are shared with others that run it). What the kernel holds for sockets is not in it.
type Memory struct{ RSS, PSS int64 }

// MemoryOf is what a process holds now.
func MemoryOf(pid int) (m Memory, err error) {
	if m.RSS, err = kilobytes(pid, "smaps_rollup", "Rss"); err != nil {
		return m, err
	}
	m.PSS, err = kilobytes(pid, "smaps_rollup", "Pss")
	return m, err
}

// ResetPeak makes PeakOf begin anew.
func ResetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// PeakOf is the most that a process has had resident, in bytes.
func PeakOf(pid int) (int64, error) { return kilobytes(pid, "status", "VmHWM") }

func kilobytes(pid int, file, field string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut(string(text), "\n"+field+":")
	if !found {
		return 0, fmt.Errorf("no %s in /proc/%d/%s", field, pid, file)
	}
	var n int64
	if _, err := fmt.Sscanf(rest, "%d kB", &n); err != nil {
		return 0, err
	}
	return n << 10, nil
}
