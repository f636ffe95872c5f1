// Command bench-locks compares KS.LOCK and KS.UNLOCK through the built proxy with
// three lock libraries for Go used directly on the same Redis: redislock, redsync
// and rueidislock; and with redislock through haproxy, if that is installed: it
// shows how much of the difference is the price of any relay in between.
//
//	go build -o bin/keysmith-proxy ./cmd/keysmith-proxy
//	go -C integration/bench-locks run . -proxy ../../bin/keysmith-proxy
//
// Workers take a lock and give it back, again and again, with nothing in between:
// one worker alone, many each with a key of its own, and many on one key. Each
// hold is checked to be the only one. Workers, proxy and Redis share the cores,
// so all figures depend on the machine and on what else it does; therefore the
// contestants take turns within a round, ratios are taken within a round, and
// what is printed are medians over the rounds.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/process"
)

// options are the flags.
type options struct {
	binary   string
	rounds   int
	duration time.Duration
	workers  int
	retry    time.Duration
	only     []string // contestants
	cases    []string
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench-locks: ")
	opts, err := parse(os.Args[1:])
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = run(ctx, opts)
	if ctx.Err() != nil {
		err = errors.New("interrupted; all servers are stopped")
	}
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func parse(args []string) (options, error) {
	flags := flag.NewFlagSet("bench-locks", flag.ExitOnError)
	var o options
	flags.StringVar(&o.binary, "proxy", "bin/keysmith-proxy", "the proxy to measure")
	flags.IntVar(&o.rounds, "rounds", 5, "how often each measurement is taken")
	flags.DurationVar(&o.duration, "duration", time.Second, "how long a measurement takes")
	flags.IntVar(&o.workers, "workers", 32, "how many lock at the same time")
	flags.DurationVar(&o.retry, "retry", time.Millisecond, "how soon redislock and redsync ask again")
	only := flags.String("only", strings.Join(contestantNames(), ","), "contestants; ratios need redislock among them")
	cases := flags.String("cases", strings.Join(allCases, ","), "what to measure")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.rounds < 1 || o.duration <= 0 || o.workers < 2 || o.retry <= 0 {
		return o, errors.New("-rounds, -duration and -retry must be positive, and -workers is at least 2")
	}
	var err error
	if o.only, err = chosen("-only", *only, contestantNames()); err != nil {
		return o, err
	}
	o.cases, err = chosen("-cases", *cases, allCases)
	return o, err
}

// chosen reads a list of some of all, and returns them in the order of all.
func chosen(flag, list string, all []string) ([]string, error) {
	words := strings.Split(list, ",")
	for _, word := range words {
		if !slices.Contains(all, word) {
			return nil, fmt.Errorf("%s knows %s, not %q", flag, strings.Join(all, ","), word)
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(name string) bool { return !slices.Contains(words, name) }), nil
}

func run(ctx context.Context, opts options) error {
	fmt.Printf("%s/%s, %d cores, load average before the run: %s\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), process.LoadAverage())
	b, err := start(ctx, opts)
	if err != nil {
		return err
	}
	defer b.stop()
	for _, c := range b.contestants {
		fmt.Printf("%s: %s\n", c.name, c.settings)
	}
	results, err := b.measureAll(ctx)
	if err != nil {
		return errors.Join(err, process.Died(b.redis, b.proxy, b.haproxy))
	}
	fmt.Print(results.String())
	for _, c := range b.contestants {
		if n := c.again.Load(); n > 0 {
			fmt.Printf("%s: %d waits began again after %v: its figures of that round are not those of a run without\n", c.name, n, hopeless)
		}
	}
	return nil
}
