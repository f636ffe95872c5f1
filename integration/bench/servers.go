package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/keysmith-proxy/keysmith-proxy/integration/process"
)

// allPaths are the ways to Redis, in the order in which they are measured.
var allPaths = []string{"direct", "proxy", "haproxy", "twemproxy"}

// key is what redis-benchmark -t get asks for.
const key = "key:__rand_int__"

// servers are Redis and the relays in front of it.
type servers struct {
	redis  *process.Server
	relays map[string]*process.Server // by path; none for "direct"
	paths  []string                   // those of the options that are installed
	admin  *redis.Client              // straight to Redis
	dir    string
}

func startServers(ctx context.Context, opts options) (*servers, error) {
	s := &servers{relays: map[string]*process.Server{}}
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
	if s.redis, err = process.StartRedis(ctx, s.dir); err != nil {
		return err
	}
	s.admin = redis.NewClient(&redis.Options{Addr: s.redis.Addr(), Protocol: 2, PoolSize: 1})
	for _, path := range opts.paths {
		if path == "direct" {
			s.paths = append(s.paths, path)
			continue
		}
		relay, err := s.startRelay(ctx, path, opts)
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

// startRelay starts what is in front of Redis on a path. All get one thread for
// the relaying on a machine with two cores, as the proxy does by default.
func (s *servers) startRelay(ctx context.Context, path string, opts options) (*process.Server, error) {
	switch path {
	case "proxy":
		return process.StartProxy(ctx, opts.binary, s.redis, "--maxclients", "9000")
	case "haproxy":
		return process.StartHAProxy(ctx, s.dir, s.redis, opts.mostClients()+100)
	default:
		port := process.FreePort()
		config := filepath.Join(s.dir, "nutcracker.yml")
		if err := os.WriteFile(config, fmt.Appendf(nil, twemproxyConfig, port, s.redis.Port), 0o600); err != nil {
			return nil, err
		}
		return process.Start(ctx, port, process.FindSystem("nutcracker"), "-v", "4", "-c", config, "-s", strconv.Itoa(process.FreePort()))
	}
}

const twemproxyConfig = `
redis:
  listen: 127.0.0.1:%d
  redis: true
  server_connections: 1
  servers:
   - 127.0.0.1:%d:1
`

func (s *servers) stop() {
	for _, relay := range s.relays {
		relay.Stop()
	}
	if s.admin != nil {
		s.admin.Close()
	}
	s.redis.Stop()
	os.RemoveAll(s.dir)
}

// died names the servers that have ended by themselves.
func (s *servers) died() error {
	return process.Died(append(slices.Collect(maps.Values(s.relays)), s.redis)...)
}

// to is where the load of a path goes.
func (s *servers) to(path string) *process.Server {
	if relay := s.relays[path]; relay != nil {
		return relay
	}
	return s.redis
}
