// Command bench measures what the proxy costs: it starts a redis-server, the
// built keysmith-proxy and, where it is installed, haproxy in TCP mode (-paths
// adds twemproxy) on loopback, sends the same load to each in turn, and prints
// throughput, latency and CPU time per request side by side, then the memory
// that idle clients take.
//
//	go build -o bin/keysmith-proxy ./cmd/keysmith-proxy
//	go run ./integration/bench -proxy bin/keysmith-proxy
//
// The load comes from redis-benchmark, GET on one key. Client, proxy and Redis
// share the cores, so the client must take as little of them as possible and
// the same on every path: redis-benchmark is one thread of C with an epoll loop
// and spends under 2 µs per request, where a loader in Go would spend more than
// the proxy does and collect garbage meanwhile. Only the percentiles of a single
// client are taken by a loader of our own (see latency.go).
//
// Absolute figures depend on the machine and on what else it does. Therefore
// the paths take turns within a round, ratios are taken within a round, and
// what is printed are medians over the rounds.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/keysmith-proxy/keysmith-proxy/integration/process"
)

// options are the flags.
type options struct {
	binary    string
	rounds    int
	requests  int
	clients   []int
	pipelines []int
	paths     []string
	idle      int
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench: ")
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
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	var o options
	flags.StringVar(&o.binary, "proxy", "bin/keysmith-proxy", "the proxy to measure")
	flags.IntVar(&o.rounds, "rounds", 5, "how often each measurement is taken; 0: only memory")
	flags.IntVar(&o.requests, "requests", 200_000, "requests of a measurement; 5 times as many with pipelining, a tenth with 1 client")
	flags.IntVar(&o.idle, "idle", 4000, "idle clients to measure memory with; 0: don't")
	clients := flags.String("clients", "1,50,500", "numbers of clients")
	pipelines := flags.String("pipelines", "1,16", "requests a client has in flight")
	paths := flags.String("paths", "direct,proxy,haproxy", "what to measure; also twemproxy")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.rounds < 0 || o.requests < 1000 || o.idle < 0 {
		return o, errors.New("-rounds and -idle can't be negative, and -requests is at least 1000")
	}
	o.paths = strings.Split(*paths, ",")
	for _, path := range o.paths {
		if !slices.Contains(allPaths, path) {
			return o, fmt.Errorf("-paths knows %v, not %q", allPaths, path)
		}
	}
	var err error
	if o.clients, err = numbers(*clients); err != nil {
		return o, err
	}
	o.pipelines, err = numbers(*pipelines)
	return o, err
}

func numbers(list string) ([]int, error) {
	var all []int
	for word := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is no list of positive numbers", list)
		}
		all = append(all, n)
	}
	return all, nil
}

// run measures load and memory, each on servers of its own.
func run(ctx context.Context, opts options) error {
	fmt.Printf("%s/%s, %d cores, load average before the run: %s\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), process.LoadAverage())
	if limit := process.FileLimit(); opts.idle > 0 && limit < opts.filesForIdle() {
		fmt.Printf("%d idle clients are left out: they need %d open files and the hard limit (ulimit -Hn) is %d\n",
			opts.idle, opts.filesForIdle(), limit)
		opts.idle = 0
	}
	if opts.rounds > 0 {
		if err := runLoad(ctx, opts); err != nil {
			return err
		}
	}
	if opts.idle > 0 {
		return runIdle(ctx, opts)
	}
	return nil
}

func runLoad(ctx context.Context, opts options) error {
	if _, err := exec.LookPath("redis-benchmark"); err != nil {
		return fmt.Errorf("%w (package redis-tools)", err)
	}
	servers, err := startServers(ctx, opts)
	if err != nil {
		return err
	}
	defer servers.stop()
	results, err := measureAll(ctx, servers, opts)
	if err != nil {
		return err
	}
	fmt.Print(results.String())
	return nil
}
