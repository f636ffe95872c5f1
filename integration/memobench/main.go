// Command memobench measures memo locks on the built proxy: it starts a redis-server and three keysmith-proxy
// processes on loopback, and prints what a hit costs beside GET, what a miss that is resolved costs, how long a
// herd of waiting clients is without its answer, what it asks Redis, and how much memory it takes.
//
//	go build -o bin/keysmith-proxy ./cmd/keysmith-proxy
//	go run ./integration/memobench -proxy bin/keysmith-proxy
//
// Clients, proxies and Redis share the cores, so absolute figures depend on the machine and on what else it does.
// What is printed are medians over the rounds, unless it says otherwise.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/process"
)

// options are the flags.
type options struct {
	binary    string
	rounds    int
	requests  int
	pairs     int
	herdSizes []int
	large     int
	idle      time.Duration
}

// most is how many clients wait at the same time at most.
func (o options) most() int { return slices.Max(o.herdSizes) }

func main() {
	log.SetFlags(0)
	log.SetPrefix("memobench: ")
	var o options
	flag.StringVar(&o.binary, "proxy", "bin/keysmith-proxy", "the proxy to measure")
	flag.IntVar(&o.rounds, "rounds", 7, "how often each is measured, but for commands and memory")
	flag.IntVar(&o.requests, "requests", 100_000, "GETs, and hits, in a round; a fifth with 1 client")
	flag.IntVar(&o.pairs, "pairs", 3000, "pairs of KS.MEMO and KS.RESOLVE in a round")
	herds := flag.String("herds", "10,1000,10000", "how many clients wait for one value")
	flag.IntVar(&o.large, "large", 1000, "how many clients wait for a value of 1 MB")
	flag.DurationVar(&o.idle, "idle", 25*time.Second, "how long a herd waits undisturbed while commands are counted")
	only := flag.String("only", "hits,pairs,herds,commands,memory", "what to measure")
	flag.Parse()
	for word := range strings.SplitSeq(*herds, ",") {
		var n int
		if _, err := fmt.Sscan(word, &n); err != nil || n < 1 {
			log.Fatalf("-herds is no list of positive numbers: %q", *herds)
		}
		o.herdSizes = append(o.herdSizes, n)
	}
	if o.rounds < 1 || o.pairs < 1 || o.large < 1 || o.requests < 1000 || o.idle <= 0 {
		log.Fatal("all numbers must be positive, and -requests at least 1000")
	}
	o.shrink()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o, strings.Split(*only, ","))
	if ctx.Err() != nil {
		err = errors.New("interrupted; all servers are stopped")
	}
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, o options, only []string) error {
	fmt.Printf("%s/%s, %d cores, load average before the run: %s\n\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), process.LoadAverage())
	for _, m := range []struct {
		name    string
		align   uint
		measure func(*bench, context.Context, io.Writer) error
	}{
		{"hits", tabwriter.AlignRight, (*bench).hits},
		{"pairs", tabwriter.AlignRight, (*bench).pairs},
		{"herds", tabwriter.AlignRight, (*bench).herds},
		{"commands", 0, (*bench).commands},
		{"memory", tabwriter.AlignRight, (*bench).memory},
	} {
		if !slices.Contains(only, m.name) {
			continue
		}
		if err := table(ctx, o, m.align, m.measure); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		fmt.Println()
	}
	fmt.Printf("load average after the run: %s\n", process.LoadAverage())
	return nil
}

// shrink makes herds as small as the limit of open files demands.
func (o *options) shrink() {
	limit := int(min(process.FileLimit(), 1<<20))
	most := limit - 500 // connections of Redis, or of the clients
	if o.most() <= most && o.large <= most {
		return
	}
	if most < 1 {
		log.Fatalf("the hard limit of open files (ulimit -Hn) is %d", limit)
	}
	fmt.Printf("herds of more than %d are made smaller: the hard limit of open files (ulimit -Hn) is %d\n", most, limit)
	o.large = min(o.large, most)
	for i := range o.herdSizes {
		o.herdSizes[i] = min(o.herdSizes[i], most)
	}
}

// table measures on servers of its own and prints the result.
func table(ctx context.Context, o options, align uint, measure func(*bench, context.Context, io.Writer) error) error {
	b, err := start(ctx, o)
	if err != nil {
		return err
	}
	defer b.stop()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', align)
	if err := measure(b, ctx, w); err != nil {
		return errors.Join(err, b.died())
	}
	return w.Flush()
}
