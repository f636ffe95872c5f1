// Command lockbench measures locks on the built proxy: it starts a redis-server
// and two keysmith-proxy processes on loopback and prints how long a hand-off
// takes, how soon a line recovers from what breaks, and what an uncontended lock
// costs.
//
//	go build -o bin/keysmith-proxy ./cmd/keysmith-proxy
//	go run ./integration/lockbench -proxy bin/keysmith-proxy
//
// Times are taken by the clients: from sending what ends a hold (or breaking
// something) to the arrival of the grant at the next in line. Client, proxies and
// Redis share the cores, so absolute figures depend on the machine; the PING
// in the first row is the measure for them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/figures"
)

// options are the flags.
type options struct {
	binary   string
	handoffs int
	rounds   int
	pairs    int
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("lockbench: ")
	var o options
	flag.StringVar(&o.binary, "proxy", "bin/keysmith-proxy", "the proxy to measure")
	flag.IntVar(&o.handoffs, "handoffs", 2000, "hand-offs to measure, on one proxy and across two each")
	flag.IntVar(&o.rounds, "rounds", 10, "how often each recovery is measured; a frozen proxy, which takes seconds, a third of that")
	flag.IntVar(&o.pairs, "pairs", 5000, "uncontended pairs of KS.LOCK and KS.UNLOCK to measure")
	flag.Parse()
	if o.handoffs < 1 || o.rounds < 1 || o.pairs < 1 {
		log.Fatal("all numbers must be positive")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	if ctx.Err() != nil {
		err = errors.New("interrupted; all servers are stopped")
	}
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, o options) error {
	b, err := start(ctx, o)
	if err != nil {
		return err
	}
	defer b.stop()
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\tmedian\tp99\tmost\tof")
	for _, m := range []struct {
		name  string
		times func(*bench, context.Context) ([]time.Duration, error)
	}{
		{"PING through a proxy", (*bench).pings},
		{"hand-off on one proxy", func(b *bench, ctx context.Context) ([]time.Duration, error) { return b.handOffs(ctx, 0, 0) }},
		{"hand-off across two", func(b *bench, ctx context.Context) ([]time.Duration, error) { return b.handOffs(ctx, 0, 1) }},
		{"lease run out to the next's grant", (*bench).runOuts},
		{"SESSION holder gone to the next's grant", (*bench).sessionEnds},
		{"waiter hung up to out of line", (*bench).hangUps},
		{"unlock past 50 waiters of a killed proxy", (*bench).killed},
		{"unlock past 50 waiters of a frozen proxy", (*bench).frozen},
	} {
		times, err := m.times(b, ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, errors.Join(err, b.died()))
		}
		slices.Sort(times)
		fmt.Fprintf(table, "%s\t%v\t%v\t%v\t%d\n", m.name,
			rounded(figures.Percentile(times, 50)), rounded(figures.Percentile(times, 99)), rounded(times[len(times)-1]), len(times))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	return b.costs(ctx)
}

// rounded is d as precisely as it means anything.
func rounded(d time.Duration) time.Duration {
	if d > 100*time.Millisecond {
		return d.Round(time.Millisecond)
	}
	return d.Round(time.Microsecond)
}
