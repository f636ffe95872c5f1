package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/process"
)

// bulk is the size of the value each client fetches once before it is idle again.
const bulk = 16 << 10

// runIdle measures what an idle client costs a relay in memory: resident memory
// with all clients connected, minus that without, per client. Each client has
// sent a PING, so its session is there in full; then each fetches a value of 16
// KB once, which shows what buffers are kept. What the kernel holds for sockets
// is not in it.
func runIdle(ctx context.Context, opts options) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%d idle clients\tRSS before MB\tRSS MB\tKB per client\tPss KB per client\tafter 16 KB each: RSS MB\tKB per client\t\n", opts.idle)
	for _, path := range opts.paths {
		if path == "direct" || path == "twemproxy" {
			continue // no relay, or one that keeps no connection per client
		}
		alone := opts
		alone.paths = []string{path}
		if err := idleRow(ctx, w, alone); err != nil {
			return fmt.Errorf("idle clients on %s: %w", path, err)
		}
	}
	return w.Flush()
}

func idleRow(ctx context.Context, w io.Writer, opts options) error {
	s, err := startServers(ctx, opts)
	if err != nil {
		return err
	}
	defer s.stop()
	if len(s.paths) == 0 {
		return nil // not installed
	}
	if err := idleOn(ctx, w, s, opts.idle); err != nil {
		return errors.Join(s.died(), err)
	}
	return nil
}

// idleOn measures the only relay of s with n clients and writes the row.
func idleOn(ctx context.Context, w io.Writer, s *servers, n int) error {
	path := s.paths[0]
	if err := s.admin.Set(ctx, "bulk", strings.Repeat("x", bulk), 0).Err(); err != nil {
		return err
	}
	clients := &crowd{address: s.to(path).Addr()}
	defer clients.leave()
	if err := clients.join(ctx, 1); err != nil { // so that what the first client causes is in the baseline
		return err
	}
	var states [3]process.Memory
	var err error
	steps := []func() error{
		func() error { return nil },
		func() error { return clients.join(ctx, n) },
		func() error { return clients.fetch(ctx) },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			return err
		}
		if states[i], err = settled(ctx, s.relays[path].Pid()); err != nil {
			return err
		}
	}
	each := func(a, b int64) float64 { return float64(b-a) / 1024 / float64(n) }
	fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t\n", path,
		megabytes(states[0].RSS), megabytes(states[1].RSS), each(states[0].RSS, states[1].RSS),
		each(states[0].PSS, states[1].PSS), megabytes(states[2].RSS), each(states[0].RSS, states[2].RSS))
	return nil
}

// filesForIdle is how many descriptors a relay takes for the idle clients: two
// each, and some of its own.
func (o options) filesForIdle() uint64 { return 2*uint64(o.idle) + 200 }

// mostClients is how many clients are connected at the same time at most.
func (o options) mostClients() int { return max(o.idle, slices.Max(o.clients)) }

func megabytes(n int64) float64 { return float64(n) / (1 << 20) }

// settled waits until the memory of a process has not changed by more than
// 64 KB for a second, ten seconds at most.
func settled(ctx context.Context, pid int) (process.Memory, error) {
	last, err := process.MemoryOf(pid)
	for range 10 {
		if err != nil {
			return last, err
		}
		select {
		case <-ctx.Done():
			return last, ctx.Err()
		case <-time.After(time.Second):
		}
		now, nowErr := process.MemoryOf(pid)
		change := now.RSS - last.RSS
		last, err = now, nowErr
		if max(change, -change) <= 64<<10 {
			break
		}
	}
	return last, err
}

// A crowd is many clients that do nothing.
type crowd struct {
	address string
	conns   []net.Conn
}

// join adds n clients that are known to be served.
func (c *crowd) join(ctx context.Context, n int) error {
	for range n {
		dialer := net.Dialer{Timeout: 10 * time.Second}
		conn, err := dialer.DialContext(ctx, "tcp", c.address)
		if err != nil {
			return fmt.Errorf("client %d: %w", len(c.conns)+1, err)
		}
		c.conns = append(c.conns, conn)
		if err := exchange(conn, "PING\r\n", len("+PONG\r\n")); err != nil {
			return fmt.Errorf("client %d: %w", len(c.conns), err)
		}
	}
	return nil
}

// fetch has each client read a value.
func (c *crowd) fetch(ctx context.Context) error {
	for i, conn := range c.conns {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := exchange(conn, "GET bulk\r\n", len("$16384\r\n")+bulk+2); err != nil {
			return fmt.Errorf("client %d: %w", i+1, err)
		}
	}
	return nil
}

// exchange sends a request and reads a reply of size bytes.
func exchange(conn net.Conn, request string, size int) error {
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		return err
	}
	reply := bufio.NewReaderSize(conn, size)
	first, err := reply.Peek(1)
	if err != nil {
		return err
	}
	if first[0] == '-' {
		text, _, _ := reply.ReadLine()
		return fmt.Errorf("%s is answered %q", strings.TrimSpace(request), text)
	}
	_, err = reply.Discard(size)
	return err
}

func (c *crowd) leave() {
	for _, conn := range c.conns {
		conn.Close()
	}
}
