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

// allPaths are the ways to Redis, in the order in which they are measured.
var allPaths = []string{"direct", "proxy", "haproxy", "twemproxy"}

// key is what redis-benchmark -t get asks for.
const key = "key:__rand_int__"

// A server is a process that the load goes to.
type server struct {
	cmd   *exec.Cmd
	log   bytes.Buffer // complete once the process has ended
	port  int
	ended chan struct{} // closed when the process has ended
}

// servers are Redis and the relays in front of it.
type servers struct {
	redis  *server
	relays map[string]*server // by path; none for "direct"
	paths  []string           // those of the options that are installed
	admin  *redis.Client      // straight to Redis
	dir    string
}

func startServers(ctx context.Context, opts options) (*servers, error) {
	s := &servers{relays: map[string]*server{}}
	if err := s.start(ctx, opts); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *servers) start(ctx context.Context, opts options) (err error) {
	if s.dir, err = os.MkdirTemp("", "ks-bench-"); err != nil {
		return err
	}
	s.redis, err = startServer(ctx, func(port int) (string, []string, error) {
		return "redis-server", []string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--dir", s.dir}, nil
	})
	if err != nil {
		return err
	}
	s.admin = redis.NewClient(&redis.Options{Addr: address(s.redis.port), Protocol: 2, PoolSize: 1})
	for _, path := range opts.paths {
		if path == "direct" {
			s.paths = append(s.paths, path)
			continue
		}
		relay, err := startServer(ctx, func(port int) (string, []string, error) { return s.relay(path, port, opts) })
		if errors.Is(err, exec.ErrNotFound) && path != "proxy" {
			fmt.Printf("%s is not installed and left out\n", path)
			continue
		}
		if err != nil {
			return err
		}
		s.relays[path] = relay
		s.paths = append(s.paths, path)
	}
	return s.admin.Set(ctx, key, "xxx", 0).Err()
}

// relay says how to start what is in front of Redis on a path. All get one
// thread for the relaying on a machine with two cores, as the proxy does by
// default.
func (s *servers) relay(path string, port int, opts options) (program string, args []string, err error) {
	switch path {
	case "proxy":
		return opts.binary, []string{
			"--port", strconv.Itoa(port), "--bind", "127.0.0.1",
			"--upstream", "redis://" + address(s.redis.port), "--maxclients", "9000", "--loglevel", "warning",
		}, nil
	case "haproxy":
		config, err := s.writeFile("haproxy.cfg", fmt.Sprintf(haproxyConfig, opts.mostClients()+100, port, s.redis.port))
		return findSystem("haproxy"), []string{"-db", "-f", config}, err
	default:
		config, err := s.writeFile("nutcracker.yml", fmt.Sprintf(twemproxyConfig, port, s.redis.port))
		return findSystem("nutcracker"), []string{"-v", "4", "-c", config, "-s", strconv.Itoa(process.FreePort())}, err
	}
}

const haproxyConfig = `
global
    nbthread 1
    maxconn %d
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen redis
    bind 127.0.0.1:%d
    server redis 127.0.0.1:%d
`

const twemproxyConfig = `
redis:
  listen: 127.0.0.1:%d
  redis: true
  server_connections: 1
  servers:
   - 127.0.0.1:%d:1
`

func (s *servers) writeFile(name, text string) (string, error) {
	path := filepath.Join(s.dir, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// findSystem also looks where users other than root usually don't.
func findSystem(program string) string {
	if _, err := exec.LookPath(program); err != nil {
		if path := filepath.Join("/usr/sbin", program); exec.Command(path, "-v").Run() == nil {
			return path
		}
	}
	return program
}

// startServer starts what command says and waits until it listens.
func startServer(ctx context.Context, command func(port int) (string, []string, error)) (*server, error) {
	s := &server{port: process.FreePort(), ended: make(chan struct{})}
	program, args, err := command(s.port)
	if err != nil {
		return nil, err
	}
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
	return s, s.awaitListening(program)
}

func (s *server) awaitListening(program string) error {
	for range 1000 {
		conn, err := net.DialTimeout("tcp", address(s.port), time.Second)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-s.ended:
			return fmt.Errorf("%s has ended: %s", program, s.log.String())
		case <-time.After(10 * time.Millisecond): // the next try
		}
	}
	s.stop()
	return fmt.Errorf("%s does not listen: %s", program, s.log.String())
}

func (s *server) stop() {
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(10 * time.Second):
		s.cmd.Process.Kill()
		<-s.ended
	}
}

func (s *servers) stop() {
	for _, relay := range s.relays {
		relay.stop()
	}
	if s.admin != nil {
		s.admin.Close()
	}
	if s.redis != nil {
		s.redis.stop()
	}
	os.RemoveAll(s.dir)
}

// died names the servers that have ended by themselves, with what they said
// last; nil if all of them run. It is for finding the cause of an error: the
// end of a connection may be seen before that of the process, so it waits a bit.
func (s *servers) died() error {
	grace, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	var all error
	report := func(name string, one *server) {
		if one.hasEnded(grace) {
			text := one.log.String()
			all = errors.Join(all, fmt.Errorf("%s has died (%v): %s", name, one.cmd.ProcessState, text[max(0, len(text)-2000):]))
		}
	}
	report("redis-server", s.redis)
	for path, relay := range s.relays {
		report(path, relay)
	}
	return all
}

// hasEnded waits for the end of the process as long as ctx allows.
func (s *server) hasEnded(ctx context.Context) bool {
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

// port is where the load of a path goes.
func (s *servers) port(path string) int {
	if relay := s.relays[path]; relay != nil {
		return relay.port
	}
	return s.redis.port
}

func address(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
