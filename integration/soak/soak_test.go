package soak

import (
	"flag"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/faults"
	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

var (
	runFor  = flag.Duration("soak.time", 0, "how long to go on with cycles of fresh seeds; 0: a short one of a fixed seed")
	cycleOf = flag.Duration("soak.cycle", 9*time.Minute, "how long things break in each cycle of a long run")
	clients = flag.Int("soak.clients", 100, "how many clients")
	rate    = flag.Int("soak.rate", 300, "how many things all clients begin in a second, at most")
	names   = flag.Int("soak.names", 12, "how many names there are in each of three databases")
	runSeed = flag.Uint64("soak.seed", 0, "the seed of the first cycle of a long run; 0: a fresh one")
	files   = flag.String("soak.files", os.TempDir(), "where what led to a violation goes")
	first   = flag.Bool("soak.first", false, "end at the first violation")
	verbose = flag.Bool("soak.verbose", false, "tell of each fault")
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(harness.Main(m))
}

// TestSoak is the short run, or a long one.
func TestSoak(t *testing.T) {
	field := faults.Start(t, "--ks-lock-ttl", "1500")
	r := newReport(os.Stdout, *files)
	defer func() {
		r.final()
		if n := r.failures(); n > 0 {
			t.Errorf("%d things went wrong", n)
		}
	}()
	if *runFor == 0 {
		play(t, field, r, course{seed: 1, length: 5 * time.Second, calm: 300 * time.Millisecond, quiet: 30 * time.Second, brief: true})
		return
	}
	seed := *runSeed
	if seed == 0 {
		seed = rand.Uint64() % 1_000_000_000
	}
	stop := r.every(5 * time.Minute)
	defer stop()
	for end := time.Now().Add(*runFor); time.Now().Before(end) && !r.enough(); seed++ {
		play(t, field, r, course{seed: seed, length: min(*cycleOf, time.Until(end)), calm: 1500 * time.Millisecond, quiet: 75 * time.Second})
		r.line()
	}
}
