package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keysmith-proxy/keysmith-proxy/integration/process"
)

// proxies is how many there are in front of one Redis.
const proxies = 3

// bench is a Redis with proxies in front of it.
type bench struct {
	options
	dir     string
	redis   *process.Server
	proxies [proxies]*process.Server
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
	if b.dir, err = os.MkdirTemp("", "ks-memobench-"); err != nil {
		return err
	}
	clients := strconv.Itoa(b.most() + 500)
	if b.redis, err = process.StartRedis(ctx, b.dir, "--maxclients", clients); err != nil {
		return err
	}
	b.admin = redis.NewClient(&redis.Options{Addr: b.redis.Addr(), Protocol: 2, PoolSize: 1})
	for i := range b.proxies {
		if b.proxies[i], err = process.StartProxy(ctx, b.binary, b.redis, "--maxclients", strconv.Itoa(b.most()+100)); err != nil {
			return err
		}
		c, err := dial(b.proxies[i])
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.do("KS.LOCK", "warm:up", "PX", "1"); err != nil { // it serves when this is answered
			return err
		}
	}
	return nil
}

// newName returns a name that was not used before.
func (b *bench) newName() string {
	b.names++
	return fmt.Sprintf("bench:%d", b.names)
}

// awaitLine waits until n callers stand in the line of name.
func (b *bench) awaitLine(ctx context.Context, name string, n int) error {
	queue := "bench/lockwaiting" + name[len("bench"):]
	deadline := time.Now().Add(time.Minute)
	for {
		length, err := b.admin.LLen(ctx, queue).Result()
		if err != nil || length == int64(n) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d wait for %s, want %d", length, name, n)
		}
		time.Sleep(time.Millisecond) // the next look
	}
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
	return process.Died(append(b.proxies[:], b.redis)...)
}

// usage is what has been used up so far.
type usage struct {
	at             time.Time
	proxies, redis time.Duration // on a core, all proxies together
	calls          process.Calls
}

func (b *bench) usage(ctx context.Context) (u usage, err error) {
	for _, p := range b.proxies {
		spent, err := process.CPUTime(p.Pid())
		if err != nil {
			return u, err
		}
		u.proxies += spent
	}
	if u.redis, err = process.CPUTime(b.redis.Pid()); err != nil {
		return u, err
	}
	stats, err := b.admin.Info(ctx, "commandstats").Result()
	u.calls, u.at = process.ParseCalls(stats), time.Now()
	delete(u.calls, "info")
	return u, err
}
