package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// cpuTime is the time that all threads of a process have spent on a core, user
// and system, in nanosecond resolution (utime and stime in /proc/<pid>/stat
// come in ticks of 10 ms). What a thread that has ended had spent is not in it;
// none of the servers here ends threads under load.
func cpuTime(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	if len(files) == 0 {
		return 0, fmt.Errorf("no CPU time of process %d: it has ended, or /proc has no schedstat (only Linux does)", pid)
	}
	var sum time.Duration
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		var onCPU time.Duration
		if _, err := fmt.Sscan(string(text), &onCPU); err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		sum += onCPU
	}
	return sum, nil
}

// memory is what a process holds, in bytes: resident, and its proportional
// share of it (pages of the program file are shared with others that run it).
type memory struct{ rss, pss int64 }

func memoryOf(pid int) (memory, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return memory{}, err
	}
	var m memory
	for field, value := range map[string]*int64{"\nRss:": &m.rss, "\nPss:": &m.pss} {
		_, rest, found := strings.Cut(string(text), field)
		var kilobytes int64
		if !found {
			return m, fmt.Errorf("no %q of process %d", field[1:], pid)
		}
		if _, err := fmt.Sscanf(rest, "%d kB", &kilobytes); err != nil {
			return m, err
		}
		*value = kilobytes << 10
	}
	return m, nil
}
