package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "lock" { // first: what is ignored here is in its command, too
		os.Exit(lockCommand(os.Args[2:], os.Stdout, os.Stderr))
	}
	// As Redis: a terminal that goes away, or a reader of the log, ends nothing.
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	os.Exit(run(untilSignalled(), os.Args[1:], os.Stdout, os.Stderr))
}

// sameSignal is how close signals follow one another if they mean one request to
// stop: timeout(1) signals both its child and its process group.
const sameSignal = 50 * time.Millisecond

// untilSignalled returns a context that ends with the first SIGTERM or SIGINT,
// which is its cause. The second ends the process.
func untilSignalled() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		cancel(fmt.Errorf("signal: %v", <-signals))
		for first := time.Now(); ; {
			if second := <-signals; time.Since(first) > sameSignal {
				fmt.Fprintf(os.Stderr, "keysmith-proxy: second signal (%v), exiting at once\n", second)
				os.Exit(1)
			}
		}
	}()
	return ctx
}

// run is the whole command: it returns the exit status, once ctx has ended or at
// once where there is nothing to run.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	inv, err := parseArgs(args)
	if err != nil {
		return fail(stderr, err)
	}
	switch inv.action {
	case "help":
		printHelp(stdout)
		return 0
	case "version":
		fmt.Fprintln(stdout, versionLine())
		return 0
	}
	c, err := load(inv, os.Stdin)
	if err != nil {
		return fail(stderr, err)
	}
	if inv.action == "check-config" {
		for _, w := range c.warnings() {
			fmt.Fprintln(stderr, "warning:", w)
		}
		fmt.Fprintln(stdout, "the configuration is right")
		return 0
	}
	log, closeLog, err := openLog(c, stderr)
	if err != nil {
		return fail(stderr, err)
	}
	defer closeLog()
	if err := serve(ctx, c, log); err != nil {
		log.Error("keysmith-proxy can't go on", "err", err)
		if c.logFile != "" {
			fail(stderr, err)
		}
		return 1
	}
	return 0
}

// fail tells what is wrong and returns the exit status for it.
func fail(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "keysmith-proxy: can't start:\n%v\n", err)
	return 1
}
