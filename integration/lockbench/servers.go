package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keysmith-proxy/keysmith-proxy/integration/process"
)

// bench is a Redis with two proxies in front of it.
type bench struct {
	options
	dir     string
	redis   *process.Server
	proxies [2]*process.Server
	admin   *redis.Client // straight to Redis
	names   int           // used so far
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
	if b.redis, err = process.StartRedis(ctx, b.dir); err != nil {
		return err
	}
	b.admin = redis.NewClient(&redis.Options{Addr: b.redis.Addr(), Protocol: 2, PoolSize: 1})
	for i := range b.proxies {
		if err := b.startProxy(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// startProxy starts proxy i, for the first time or again, and waits until it serves.
func (b *bench) startProxy(ctx context.Context, i int) (err error) {
	if b.proxies[i], err = process.StartProxy(ctx, b.binary, b.redis, "--maxclients", "1000"); err != nil {
		return err
	}
	c := b.dial(i)
	defer c.Close()
	return c.Do(ctx, "KS.LOCK", "warm:up", "PX", "1").Err()
}

// freeze stops the process, and returns when all of its threads have stopped.
func freeze(s *process.Server) error {
	s.Signal(syscall.SIGSTOP)
	for range 1000 {
		running, err := runs(s)
		if err != nil || !running {
			return err
		}
		time.Sleep(time.Millisecond) // the next look
	}
	return fmt.Errorf("%s does not stop", s.Name)
}

func runs(s *process.Server) (bool, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.Pid()))
	if err != nil || len(threads) == 0 {
		return false, fmt.Errorf("%s has ended", s.Name)
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if err == nil && !bytes.Contains(stat, []byte(") T ")) {
			return true, nil
		}
	}
	return false, nil
}

func (b *bench) stop() {
	for _, p := range b.proxies {
		p.Stop()
	}
	if b.admin != nil {
		b.admin.Close()
	}
	b.redis.Stop()
	os.RemoveAll(b.dir)
}

// died names the servers that have ended by themselves.
func (b *bench) died() error {
	return process.Died(b.redis, b.proxies[0], b.proxies[1])
}
