package harness

import (
	"sync"
	"time"
)

// stalls is how late a sleep of this process ended, for those that ended late since it first started a Redis.
var stalls struct {
	watch sync.Once
	mu    sync.Mutex
	all   []stall // of the last ones, in order
}

type stall struct {
	end  time.Time
	late time.Duration
}

func watchStalls() {
	const nap, noted, kept = 10 * time.Millisecond, 20 * time.Millisecond, 1000
	for {
		began := time.Now()
		time.Sleep(nap) // it is what is measured
		if late := time.Since(began) - nap; late > noted {
			stalls.mu.Lock()
			stalls.all = append(stalls.all[max(0, len(stalls.all)-kept):], stall{time.Now(), late})
			stalls.mu.Unlock()
		}
	}
}

// Late reports whether d is longer than bound though the machine let processes run: what it kept this one from
// running in the last d counts for each of the processes that something passes, and their answers.
func Late(d, bound time.Duration) bool {
	const processes = 4 // the client, the proxy, Redis, another proxy
	return d > bound && d > bound+processes*stalled(time.Now().Add(-d))
}

// stalled is for how long the machine has kept this process from running since then, as far as sleeps that ended
// late tell.
func stalled(since time.Time) time.Duration {
	stalls.mu.Lock()
	defer stalls.mu.Unlock()
	var d time.Duration
	for _, s := range stalls.all {
		if s.end.After(since) {
			d += min(s.late, s.end.Sub(since))
		}
	}
	return d
}
