package soak

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// report is what happened, and what was wrong.
type report struct {
	out   io.Writer
	dir   string // for what led to a violation
	start time.Time
	calls atomic.Int64

	mu      sync.Mutex
	answers map[string]int
	deeds   map[string]int
	broken  map[string]int
	overdue time.Duration // how much longer than its WAIT a call took at most
	wrongs  []string
	hungs   []string
	lefts   []string
	kinds   map[string]int // of what was left over
}

func newReport(out io.Writer, dir string) *report {
	return &report{
		out: out, dir: dir, start: time.Now(), answers: map[string]int{}, deeds: map[string]int{},
		broken: map[string]int{}, kinds: map[string]int{},
	}
}

// now is the time since the start.
func (r *report) now() int64 { return int64(time.Since(r.start)) }

// count, did and broke are what was answered, what clients did besides, and what broke.
func (r *report) count(what string) { r.add(r.answers, what) }
func (r *report) did(what string)   { r.add(r.deeds, what) }
func (r *report) broke(what string) {
	r.add(r.broken, what)
	if *verbose {
		r.say("fault: %s", what)
	}
}

func (r *report) add(to map[string]int, what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	to[what]++
}

// waited notes how long an answered call took.
func (r *report) waited(wait, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.overdue = max(r.overdue, took-wait)
}

func (r *report) say(format string, args ...any) {
	fmt.Fprintf(r.out, "%8v %s\n", time.Since(r.start).Truncate(time.Millisecond), fmt.Sprintf(format, args...))
}

// blame, hung and left are the three ways to go wrong. trace is what happened before.
func (r *report) blame(what string, trace []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrongs = append(r.wrongs, what)
	r.say("WRONG %s", what)
	if len(r.wrongs) > 30 {
		return
	}
	name := filepath.Join(r.dir, fmt.Sprintf("soak-%d-wrong-%d.txt", os.Getpid(), len(r.wrongs)))
	if err := os.WriteFile(name, []byte(what+"\n\n"+strings.Join(trace, "\n")+"\n"), 0o600); err != nil {
		r.say("%v", err)
	}
}

func (r *report) hung(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hungs = append(r.hungs, what)
	r.say("HUNG %s", what)
}

func (r *report) left(kind, what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lefts = append(r.lefts, kind+": "+what)
	r.kinds[kind]++
	r.say("LEFT %s: %s", kind, what)
}

func (r *report) failures() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.wrongs) + len(r.hungs) + len(r.lefts)
}

// enough reports whether the run may end for a violation.
func (r *report) enough() bool { return *first && r.failures() > 0 }

// every tells the progress until it is stopped.
func (r *report) every(period time.Duration) (stop func()) {
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(period)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				r.line()
			case <-done:
				return
			}
		}
	}()
	return func() { close(done) }
}

// line is the progress in one line.
func (r *report) line() {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.answers
	r.say("%d calls: %d values, %d stale, %d generate, %d nil, %d rejected; %d resolved; %d locks; %d trusted holds; %d faults; %d wrong, %d hung, %d left",
		r.calls.Load(), a["KS.MEMO: value"], a["KS.MEMO: stale"], a["KS.MEMO: generate"], a["KS.MEMO: nil"], a["KS.MEMO: MEMOERR"],
		a["KS.RESOLVE: 1"], a["KS.LOCK: granted"], r.deeds["trusted holds"], sum(r.broken), len(r.wrongs), len(r.hungs), len(r.lefts))
}

func (r *report) final() {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.kinds
	fmt.Fprintf(r.out, "\nDuration: %v\nCalls: %d\nAnswers:\n%sWhat clients did:\n%sFaults: %d\n%s"+
		"Longest wait for an answer beyond its WAIT: %v\nWrong answers: %d\nHung waiters: %d\n"+
		"Left over: %d (keys %d, subscriptions %d, connections %d, goroutines %d, descriptors %d)\n",
		time.Since(r.start).Round(time.Second), r.calls.Load(), table(r.answers), table(r.deeds), sum(r.broken), table(r.broken),
		r.overdue.Round(time.Millisecond), len(r.wrongs), len(r.hungs),
		len(r.lefts), k["keys"], k["subscriptions"], k["connections"], k["goroutines"], k["descriptors"])
	for _, list := range [][]string{r.wrongs, r.hungs, r.lefts} {
		for _, what := range list[:min(len(list), 20)] {
			fmt.Fprintln(r.out, "  ", what)
		}
	}
}

func sum(of map[string]int) (total int) {
	for _, n := range of {
		total += n
	}
	return total
}

func table(of map[string]int) string {
	var all strings.Builder
	for _, what := range slices.Sorted(maps.Keys(of)) {
		fmt.Fprintf(&all, "    %-45s %8d\n", what, of[what])
	}
	return all.String()
}
