package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keysmith-proxy/keysmith-proxy/integration/process"
)

// bench is a Redis with two proxies in front of it.
type bench struct {
	options
	dir     string
	redis   *server
	proxies [2]*server
	admin   *redis.Client // straight to Redis
	names   int           // used so far
}

// A server is a process that was started.
type server struct {
	name  string
	cmd   *exec.Cmd
	log   bytes.Buffer // complete once the process has ended
	port  int
	ended chan struct{} // closed when the process has ended
}

func start(ctx context.Context, o options) (*bench, error) {
	b := &bench{options: o}
	if err := b.startAll(ctx); err != nil {
		b.stop()
		return nil, err
	}
	return b, nil
}

func (b *bench) startAll(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "ks-lockbench-"); err != nil {
		return err
	}
	b.redis, err = startServer(ctx, "redis-server", func(port string) []string {
		return []string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", b.dir}
	})
	if err != nil {
		return err
	}
	b.admin = redis.NewClient(&redis.Options{Addr: b.redis.addr(), Protocol: 2, PoolSize: 1})
	for i := range b.proxies {
		if err := b.startProxy(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// startProxy starts proxy i, for the first time or again, and waits until it serves.
func (b *bench) startProxy(ctx context.Context, i int) (err error) {
	b.proxies[i], err = startServer(ctx, b.binary, func(port string) []string {
		return []string{
			"--port", port, "--bind", "127.0.0.1", "--upstream", "redis://" + b.redis.addr(),
			"--maxclients", "1000", "--loglevel", "warning",
		}
	})
	if err != nil {
		return err
	}
	c := b.dial(i)
	defer c.Close()
	return c.Do(ctx, "KS.LOCK", "warm:up", "PX", "1").Err()
}

func startServer(ctx context.Context, program string, args func(port string) []string) (*server, error) {
	s := &server{name: filepath.Base(program), port: process.FreePort(), ended: make(chan struct{})}
	s.cmd = exec.CommandContext(ctx, program, args(strconv.Itoa(s.port))...)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = 5 * time.Second
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = s.cmd.Wait() // how it ended is in its log
		close(s.ended)
	}()
	for range 1000 {
		conn, err := net.DialTimeout("tcp", s.addr(), time.Second)
		if err == nil {
			return s, conn.Close()
		}
		select {
		case <-s.ended:
			return nil, fmt.Errorf("%s has ended: %s", s.name, s.log.String())
		case <-time.After(10 * time.Millisecond): // the next try
		}
	}
	s.stop()
	return nil, fmt.Errorf("%s does not listen: %s", s.name, s.log.String())
}

func (s *server) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

func (s *server) signal(sig os.Signal) { s.cmd.Process.Signal(sig) }

// freeze stops the process, and returns when all of its threads have stopped.
func (s *server) freeze() error {
	s.signal(syscall.SIGSTOP)
	for range 1000 {
		running, err := s.runs()
		if err != nil || !running {
			return err
		}
		time.Sleep(time.Millisecond) // the next look
	}
	return fmt.Errorf("%s does not stop", s.name)
}

func (s *server) runs() (bool, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.cmd.Process.Pid))
	if err != nil || len(threads) == 0 {
		return false, fmt.Errorf("%s has ended", s.name)
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if err == nil && !bytes.Contains(stat, []byte(") T ")) {
			return true, nil
		}
	}
	return false, nil
}

func (s *server) kill() {
	s.signal(syscall.SIGKILL)
	<-s.ended
}

func (s *server) stop() {
	s.signal(syscall.SIGCONT)
	s.signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(10 * time.Second):
		s.kill()
	}
}

func (b *bench) stop() {
	for _, p := range b.proxies {
		if p != nil {
			p.stop()
		}
	}
	if b.admin != nil {
		b.admin.Close()
	}
	if b.redis != nil {
		b.redis.stop()
	}
	os.RemoveAll(b.dir)
}

// died names the servers that have ended by themselves, with what they said last.
func (b *bench) died() error {
	var all error
	for _, s := range []*server{b.redis, b.proxies[0], b.proxies[1]} {
		select {
		case <-s.ended:
			text := s.log.String()
			all = errors.Join(all, fmt.Errorf("%s has ended (%v): %s", s.name, s.cmd.ProcessState, text[max(0, len(text)-2000):]))
		default:
		}
	}
	return all
}
