package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/keysmith-proxy/keysmith-proxy/integration/process"
)

// bench is a Redis, a proxy in front of it, and those who use them.
type bench struct {
	options
	dir         string
	redis       *process.Server
	proxy       *process.Server // nil if KS.LOCK is not measured
	haproxy     *process.Server // nil if nothing through it is measured
	contestants []*contestant
}

func start(ctx context.Context, opts options) (*bench, error) {
	b := &bench{options: opts}
	if err := b.startAll(ctx); err != nil {
		b.stop()
		return nil, err
	}
	return b, nil
}

func (b *bench) startAll(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "ks-bench-locks-"); err != nil {
		return err
	}
	if b.redis, err = process.StartRedis(ctx, b.dir); err != nil {
		return err
	}
	for _, name := range b.only {
		err := b.startRelay(ctx, name)
		if errors.Is(err, exec.ErrNotFound) && name == throughHAProxy {
			fmt.Println("haproxy is not installed: left out is", name)
			continue
		}
		if err != nil {
			return err
		}
		c, err := constructors[name](b)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		c.name = name
		b.contestants = append(b.contestants, c)
	}
	return nil
}

// startRelay starts what a contestant needs between itself and Redis.
func (b *bench) startRelay(ctx context.Context, contestant string) (err error) {
	switch contestant {
	case "ks":
		b.proxy, err = process.StartProxy(ctx, b.binary, b.redis, "--maxclients", "1000")
	case throughHAProxy:
		b.haproxy, err = process.StartHAProxy(ctx, b.dir, b.redis, 1000)
	}
	return err
}

func (b *bench) stop() {
	for _, c := range b.contestants {
		c.close()
	}
	b.proxy.Stop()
	b.haproxy.Stop()
	b.redis.Stop()
	os.RemoveAll(b.dir)
}
