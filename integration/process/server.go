package process

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
)

// A Server is a process that was started and listens on a port of loopback.
type Server struct {
	Name  string
	Port  int
	cmd   *exec.Cmd
	log   bytes.Buffer // complete once the process has ended
	ended chan struct{}
}

// StartRedis starts a redis-server that keeps nothing; dir is its working directory, args are further
// directives.
func StartRedis(ctx context.Context, dir string, args ...string) (*Server, error) {
	port := FreePort()
	return Start(ctx, port, "redis-server", append([]string{
		"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--dir", dir,
	}, args...)...)
}

// StartProxy starts the keysmith-proxy built at path binary in front of redis;
// args are further directives.
func StartProxy(ctx context.Context, binary string, redis *Server, args ...string) (*Server, error) {
	port := FreePort()
	return Start(ctx, port, binary, append([]string{
		"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--upstream", "redis://" + redis.Addr(), "--loglevel", "warning",
	}, args...)...)
}

// Start runs a program and waits until it listens on port, which args have told
// it. The caller stops it; the end of ctx does so, too. The error is exec's
// ErrNotFound if there is no such program.
func Start(ctx context.Context, port int, program string, args ...string) (*Server, error) {
	s := &Server{Name: filepath.Base(program), Port: port, ended: make(chan struct{})}
	s.cmd = exec.CommandContext(ctx, program, args...)
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
	if err := s.awaitListening(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) awaitListening() error {
	for range 1000 {
		conn, err := net.DialTimeout("tcp", s.Addr(), time.Second)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-s.ended:
			return fmt.Errorf("%s has ended: %s", s.Name, s.log.String())
		case <-time.After(10 * time.Millisecond): // the next try
		}
	}
	s.Stop()
	return fmt.Errorf("%s does not listen: %s", s.Name, s.log.String())
}

// Addr is where it listens, host:port.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)) }

// Pid is its process id.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Signal sends sig; that it has ended already is no error.
func (s *Server) Signal(sig os.Signal) { s.cmd.Process.Signal(sig) }

// Kill ends it with SIGKILL and returns when it is gone.
func (s *Server) Kill() {
	s.Signal(syscall.SIGKILL)
	<-s.ended
}

// Stop ends it with SIGTERM, after ten seconds with SIGKILL, and returns when it
// is gone. Of a nil Server it does nothing.
func (s *Server) Stop() {
	if s == nil {
		return
	}
	s.Signal(syscall.SIGCONT) // it may have been stopped
	s.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(10 * time.Second):
		s.Kill()
	}
}

// Died names those servers that have ended by themselves, with what they said
// last; nil if all of them run. It is for finding the cause of an error: the
// end of a connection may be seen before that of the process, so it waits a bit.
func Died(servers ...*Server) error {
	grace, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	var all error
	for _, s := range servers {
		if s != nil && s.hasEnded(grace) {
			text := s.log.String()
			all = errors.Join(all, fmt.Errorf("%s has died (%v): %s", s.Name, s.cmd.ProcessState, text[max(0, len(text)-2000):]))
		}
	}
	return all
}

// hasEnded waits for the end of the process as long as ctx allows.
func (s *Server) hasEnded(ctx context.Context) bool {
	select {
	case <-s.ended:
		return true
	case <-ctx.Done():
	}
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}
