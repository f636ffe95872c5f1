package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// tick is how often the embedded Redis is told the time. Everything within one
// tick happens at the same instant for it, scripts included.
const tick = 5 * time.Millisecond

// embedded is a Redis in this process (miniredis), for trying things out: it
// keeps nothing, and it is not fast with many keys.
//
// Time stands still in miniredis unless it is told. In ClockTTL mode it takes
// what lies between two SetTime off the TTLs, so keys age exactly once and by the
// same clock that TIME and PEXPIREAT read, and a process that was stopped catches
// up with its first tick.
type embedded struct {
	redis  *miniredis.Miniredis
	server *server.Server // its connections
	stop   context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex
	closed bool
}

// startEmbedded starts it without any port: only dial leads to it. The caller
// closes it.
func startEmbedded() (*embedded, error) {
	e := &embedded{redis: miniredis.NewMiniRedis()}
	e.redis.SetTime(time.Now())
	e.redis.ClockTTL(true)
	// The first Dial starts a miniredis without a listener.
	conn, err := e.redis.Dial()
	if err != nil {
		return nil, fmt.Errorf("start embedded redis: %w", err)
	}
	conn.Close()
	e.server = e.redis.Server()
	e.server.SetPreHook(refuseSubcommands)
	ctx, stop := context.WithCancel(context.Background())
	e.stop = stop
	e.done.Go(func() { e.runClock(ctx) })
	return e, nil
}

// refuseSubcommands answers COMMAND DOCS and its like, whose arguments miniredis
// ignores; redis-cli, which asks when it starts, takes a wrong answer badly.
func refuseSubcommands(c *server.Peer, cmd string, args ...string) bool {
	if cmd != "COMMAND" || len(args) == 0 {
		return false
	}
	c.WriteError("ERR unknown subcommand '" + lineBreaks.Replace(args[0]) + "'. Try COMMAND HELP.")
	return true
}

// lineBreaks must not get into an error reply, which they would end.
var lineBreaks = strings.NewReplacer("\r", " ", "\n", " ")

// runClock tells the time until ctx ends. Aging costs time that grows with the
// number of keys, while all clients wait; so at most a fifth goes into it.
func (e *embedded) runClock(ctx context.Context) {
	timer := time.NewTimer(tick)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		begin := time.Now()
		e.tell(begin)
		timer.Reset(max(tick, 4*time.Since(begin)))
	}
}

// tell makes it now for the embedded Redis.
func (e *embedded) tell(now time.Time) {
	e.redis.SetTime(now)
	e.redis.DB(0) // touching any database ages the keys of all
}

// dial connects to it by a pair of Unix sockets: unlike net.Pipe, which miniredis
// offers, they have buffers and can be half-closed, as a connection to Redis can.
func (e *embedded) dial() (net.Conn, error) {
	fds, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("connect to embedded redis: %w", os.NewSyscallError("socketpair", err))
	}
	ours, err := fileConn(fds[0])
	theirs, err2 := fileConn(fds[1])
	if err = errors.Join(err, err2); err == nil {
		err = e.serve(theirs)
	}
	if err != nil {
		for _, c := range []net.Conn{ours, theirs} {
			if c != nil {
				c.Close()
			}
		}
		return nil, fmt.Errorf("connect to embedded redis: %w", err)
	}
	return ours, nil
}

// serve hands a connection over, unless the embedded Redis is closed.
func (e *embedded) serve(conn net.Conn) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return net.ErrClosed
	}
	e.server.ServeConn(conn)
	return nil
}

// socketPair returns two connected sockets that no child process inherits.
func socketPair() ([2]int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	return fds, err
}

// fileConn makes a connection of a socket; it takes over fd.
func fileConn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "embedded redis")
	defer f.Close()
	return net.FileConn(f)
}

// close ends it with all connections, and waits for that.
func (e *embedded) close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.stop()
	e.done.Wait()
	e.redis.Close()
}
