package main

import (
	"fmt"
	"os"
	"strings"
)

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
