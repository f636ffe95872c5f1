// Package process is what the benchmarks share: starting servers, ports for them, and what they use up.
package process

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// CPUTime is the time that all threads of a process have spent on a core, user
// and system, in nanosecond resolution (utime and stime in /proc/<pid>/stat
// come in ticks of 10 ms). What a thread that has ended had spent is not in it;
// none of the servers measured here ends threads under load.
func CPUTime(pid int) (time.Duration, error) {
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

// FreePort finds a port below those the kernel gives to outgoing connections.
func FreePort() int {
	for {
		port := 10000 + rand.IntN(20000)
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			l.Close()
			return port
		}
	}
}

// LoadAverage tells whether the machine was busy with something else, which
// makes all figures worse and the ratios uncertain.
func LoadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	oneMinute, _, _ := strings.Cut(string(text), " ")
	return oneMinute
}

// FileLimit is the hard limit of open files, to which Go and the servers raise
// the soft one themselves.
func FileLimit() uint64 {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	return uint64(l.Max) // signed on some systems
}
