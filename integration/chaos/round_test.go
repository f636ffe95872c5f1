package chaos

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/keysmith-proxy/keysmith-proxy/integration/faults"
	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

var (
	runFor  = flag.Duration("chaos.time", 0, "how long to go on with rounds of fresh seeds; 0: a short run of fixed ones")
	roundOf = flag.Duration("chaos.round", 15*time.Second, "how long things break in each round of a long run")
	files   = flag.String("chaos.files", "", "where histories of violations go; empty: the directory for temporary files")
	runSeed = flag.Uint64("chaos.seed", 0, "the seed of the first round of a long run; 0: a fresh one")
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(harness.Main(m))
}

const proxies = faults.Proxies

// field is where all rounds of a run are played.
type field struct{ *faults.Field }

func startField(t testing.TB) *field { return &field{faults.Start(t, "--ks-lock-ttl", "1500")} }

func (f *field) proxy(i int) string { return f.Proxy(i).Addr }

// round is some seconds of chaos on names of its own.
type round struct {
	*field
	*history
	counts
	seed    uint64
	clients int
	loses   bool // Redis loses its data on the way
	guards  bool // the proxy knows KS.GUARD
	names   []string
	late    sync.WaitGroup // calls that were left to themselves
}

// play runs the round and returns what was wrong.
func (f *field) play(t testing.TB, seed uint64, clients int, length time.Duration, loses bool) []string {
	t.Helper()
	r := &round{field: f, history: newHistory(), counts: counts{of: map[string]int{}}, seed: seed, clients: clients, loses: loses}
	tag := fmt.Sprintf("chaos%d", seed)
	r.names = []string{tag + ":a", tag + ":b", tag + ":c", tag + ":d", tag + ":e", tag + "-f"}
	help, _ := r.patient(t, "KS.HELP").([]any)
	r.guards = strings.Contains(fmt.Sprint(help), "KS.GUARD")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var work sync.WaitGroup
	for i := range clients {
		c := &client{round: r, id: i, random: rand.New(rand.NewPCG(seed, uint64(i)))}
		work.Go(func() { c.run(ctx) })
	}
	breaking := &faults.Injector{Field: f.Field, T: t, Random: rand.New(rand.NewPCG(seed, 1<<32)), Count: r.count}
	if loses {
		breaking.Lost = r.lost
	}
	breaking.Run(time.Now().Add(length))
	cancel()
	work.Wait()
	r.late.Wait()
	settled := r.settle(t)
	registers := r.registers(t)
	wrong := r.verdict(registers)
	linear := porcupine.CheckResult("not asked: data were lost")
	if !loses {
		var illegal []string
		linear, illegal = r.linearizable(10 * time.Second)
		wrong = append(wrong, illegal...)
	}
	t.Logf("seed %d: %d calls, %d grants, %d operations recorded (%s); %d violations; porcupine: %v; at most %v after its WAIT; settled in %v; %s",
		seed, r.calls.Load(), r.grants.Load(), len(r.ops), r.outcomes(), len(wrong), linear,
		r.overdue.Round(time.Millisecond), settled.Round(time.Millisecond), r.counts.String())
	if len(wrong) > 0 || linear == porcupine.Unknown {
		t.Logf("seed %d: the history is in %s", seed, r.dump())
	}
	return wrong
}

// String lists what was counted.
func (c *counts) String() string {
	var all []string
	for _, what := range slices.Sorted(maps.Keys(c.of)) {
		all = append(all, fmt.Sprintf("%s %d", what, c.of[what]))
	}
	return strings.Join(all, ", ")
}

// outcomes says how much the checks had to go by.
func (h *history) outcomes() string {
	var all counts
	all.of = map[string]int{}
	for _, o := range h.ops {
		all.count(fmt.Sprintf("%v %v", o.kind, o.outcome))
	}
	for _, ops := range h.byName() {
		for _, of := range h.holdsOf(ops) {
			if of.end > of.begin && !h.spansLoss(of) {
				all.count("trusted holds")
			}
		}
	}
	return all.String()
}

// patient asks a proxy until it answers, with anything but an error: all faults have ended, or not yet begun.
func (r *round) patient(t testing.TB, args ...string) any {
	t.Helper()
	deadline := time.Now().Add(harness.Patience)
	for i := 0; ; i++ {
		conn, err := harness.TryDial(r.proxy(i % proxies))
		if err == nil {
			_, err = conn.Write([]byte(harness.Command(args...)))
		}
		var reply string
		if err == nil {
			reply, err = conn.ReplyWithin(harness.Patience)
			conn.Close()
		}
		if err == nil && !strings.HasPrefix(reply, "-") {
			value, _, _ := stage.ParseOne(reply)
			return value
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q is not answered: %s %v", args, reply, err)
		}
		time.Sleep(5 * time.Millisecond) // the next try
	}
}

// settle makes sure that every lock can be taken, and that only fences and lines are left. It returns how long that took.
func (r *round) settle(t testing.TB) time.Duration {
	t.Helper()
	const soon = 15 * time.Second // what still stands runs out in 2 s, a frozen proxy may cost as much again
	began := time.Now()
	for _, name := range r.names {
		if !r.lockOnce(t, name, "WAIT", milliseconds(soon)) {
			r.blame("%s can't be taken after %v", name, soon)
		}
	}
	// The places of callers that went with their proxy or its link may stand for half a minute.
	r.awaitLeft(r.history, t, 10*time.Second, func(key string) bool { return strings.Contains(key, "/lockwaiting") })
	return time.Since(began)
}

// awaitLeft waits until only fences are left in Redis, and what else may be there.
func (f *field) awaitLeft(h *history, t testing.TB, within time.Duration, tolerated func(key string) bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		left := slices.DeleteFunc(f.left(t), tolerated)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			h.blame("left after %v: %q", within, left)
			return
		}
		time.Sleep(20 * time.Millisecond) // the next look
	}
}

func (r *round) lockOnce(t testing.TB, name string, options ...string) bool {
	t.Helper()
	token := fmt.Sprintf("settle-%d", rand.Uint64())
	granted, _ := r.patient(t, append([]string{"KS.LOCK", name, "PX", "5000", "TOKEN", token}, options...)...).([]any)
	if len(granted) != 2 {
		return false
	}
	if n := r.patient(t, "KS.UNLOCK", name, token); n != int64(1) {
		r.blame("%s: the unlock after all faults answers %v", name, n)
	}
	return true
}

// left are the keys in Redis that should not be there.
func (f *field) left(t testing.TB) []string {
	t.Helper()
	value, _, _ := stage.ParseOne(f.Redis.Do(t, "KEYS", "*"))
	keys, _ := value.([]any)
	var left []string
	for _, k := range keys {
		key, _ := k.(string)
		name, _, _ := strings.Cut(key, ":")
		if !strings.HasSuffix(name, "/fence") && key != "ks/config:tag-split" && !strings.HasPrefix(key, register("")) {
			left = append(left, key)
		}
	}
	return left
}

// registers reads and removes what guarded writes have left.
func (r *round) registers(t testing.TB) map[string]int64 {
	t.Helper()
	values := map[string]int64{}
	for _, name := range r.names {
		value, _, _ := stage.ParseOne(r.Redis.Do(t, "GETDEL", register(name)))
		text, _ := value.(string)
		values[name], _ = strconv.ParseInt(text, 10, 64)
	}
	return values
}

// dump writes the history to a file.
func (r *round) dump() string {
	f, err := os.CreateTemp(*files, "chaos-*.txt")
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	for _, o := range r.ops {
		fmt.Fprintln(f, o)
	}
	return f.Name()
}

// TestChaos is the short run, or a long one.
func TestChaos(t *testing.T) {
	f := startField(t)
	if *runFor == 0 {
		f.judge(t, 1, 10, 2500*time.Millisecond, false)
		f.judge(t, 2, 10, 1500*time.Millisecond, false)
		f.judge(t, 3, 10, time.Second, true)
		return
	}
	seed := *runSeed
	if seed == 0 {
		seed = rand.Uint64() % 1_000_000_000
	}
	t.Logf("the first seed is %d", seed)
	for end := time.Now().Add(*runFor); time.Now().Before(end) && !t.Failed(); seed++ {
		f.judge(t, seed, 20, *roundOf, seed%5 == 0)
	}
	if t.Failed() {
		return
	}
	h := newHistory()
	f.awaitLeft(h, t, 70*time.Second, func(string) bool { return false }) // a line is gone a minute after its last caller
	for _, wrong := range h.wrong {
		t.Error(wrong)
	}
}

func (f *field) judge(t *testing.T, seed uint64, clients int, length time.Duration, loses bool) {
	t.Helper()
	for i, wrong := range f.play(t, seed, clients, length, loses) {
		if i == 20 {
			t.Errorf("seed %d: and more", seed)
			break
		}
		t.Errorf("seed %d: %s", seed, wrong)
	}
}
