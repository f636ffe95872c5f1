package main

import (
	"context"
	"fmt"
	"os"

	"github.com/keysmith-proxy/keysmith-proxy/integration/process"
)

// bench is a Redis, a proxy in front of it, and those who use them.
type bench struct {
	options
	dir         string
	redis       *process.Server
	proxy       *process.Server // nil if KS.LOCK is not measured
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
		if name == "ks" {
			if b.proxy, err = process.StartProxy(ctx, b.binary, b.redis, "--maxclients", "1000"); err != nil {
				return err
			}
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

func (b *bench) stop() {
	for _, c := range b.contestants {
		c.close()
	}
	b.proxy.Stop()
	b.redis.Stop()
	os.RemoveAll(b.dir)
}
