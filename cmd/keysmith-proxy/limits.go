package main

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"syscall"
)

// reservedFiles are the descriptors that clients don't get: listeners, the log,
// and the proxy's own connections to Redis.
const reservedFiles = 96

// cores is what Go takes for the number of usable cores: those of this machine,
// of the process's affinity, or of its control group, whichever is least.
var cores = runtime.GOMAXPROCS(0)

// applyThreads sets how many threads run the proxy. With one for two cores it does
// as much as with two, since the price of relaying is in wake-ups, and leaves the
// other to Redis. GOMAXPROCS in the environment wins over the default, not over
// the directive.
func applyThreads(c *config) int {
	n := c.threads
	if n == 0 {
		if os.Getenv("GOMAXPROCS") != "" {
			return runtime.GOMAXPROCS(0)
		}
		n = max(cores/2, 1)
	}
	runtime.GOMAXPROCS(n)
	return n
}

// filesPerClient is how many descriptors a client takes: its connection and its
// lane, and with an embedded Redis also the other end of the lane.
func filesPerClient(c *config) int {
	if c.upstream.scheme == "embedded" {
		return 3
	}
	return 2
}

// clientLimit returns how many clients the descriptor limit carries of those that
// maxclients asks for, with a warning if that is less. It is an error if the limit
// is too low for any.
func clientLimit(c *config, files uint64, log *slog.Logger) (int, error) {
	each := filesPerClient(c)
	need := uint64(c.maxClients)*uint64(each) + reservedFiles
	if files >= need {
		return c.maxClients, nil
	}
	if files < reservedFiles+uint64(each) {
		return 0, fmt.Errorf("the limit of %d open files is too low to start; raise it to %d (ulimit -n, or LimitNOFILE of the service)", files, need)
	}
	carried := int(files-reservedFiles) / each
	log.Warn("maxclients is lowered to what the limit of open files carries; raise that limit (ulimit -n, or LimitNOFILE of the service) or lower maxclients",
		"maxclients", carried, "configured", c.maxClients, "files", files, "needed", need)
	return carried, nil
}

// openFileLimit raises this process's soft limit of open files to the hard one
// and returns it.
func openFileLimit() (uint64, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("ask for the limit of open files: %w", err)
	}
	if l.Cur < l.Max {
		raised := syscall.Rlimit{Cur: l.Max, Max: l.Max}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
			l = raised
		}
	}
	return uint64(l.Cur), nil // signed on some systems
}
