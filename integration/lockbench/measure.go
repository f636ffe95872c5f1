package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// waiters is how many wait on a proxy that is killed or frozen.
const waiters = 50

// dial returns a client with a single connection to proxy i.
func (b *bench) dial(i int) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: b.proxies[i].Addr(), Protocol: 2, PoolSize: 1, MaxRetries: -1, DisableIdentity: true,
		ReadTimeout: 30 * time.Second,
	})
}

// newName returns a name that was not used before: places of killed proxies stay for a while.
func (b *bench) newName() string {
	b.names++
	return fmt.Sprintf("bench:%d", b.names)
}

// grant is what a caller of KS.LOCK got, and when.
type grant struct {
	token string
	at    time.Time
	err   error
}

func lock(ctx context.Context, c *redis.Client, name string, options ...any) grant {
	reply, err := c.Do(ctx, append([]any{"KS.LOCK", name}, options...)...).Slice()
	g := grant{at: time.Now(), err: err}
	if err == nil {
		g.token, _ = reply[0].(string)
	}
	return g
}

func unlock(ctx context.Context, c *redis.Client, name string, g grant) error {
	n, err := c.Do(ctx, "KS.UNLOCK", name, g.token).Int()
	if err == nil && n != 1 {
		err = fmt.Errorf("KS.UNLOCK answers %d", n)
	}
	return err
}

// wait lets c wait for the lock and returns when it is one of n in line.
func (b *bench) wait(ctx context.Context, c *redis.Client, name string, n int64, options ...any) (<-chan grant, error) {
	granted := make(chan grant, 1)
	go func() { granted <- lock(ctx, c, name, options...) }()
	return granted, b.awaitLine(ctx, name, n)
}

func (b *bench) awaitLine(ctx context.Context, name string, n int64) error {
	queue := "bench/lockwaiting" + name[len("bench"):]
	deadline := time.Now().Add(10 * time.Second)
	for {
		length, err := b.admin.LLen(ctx, queue).Result()
		if err != nil || length == n {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d wait for %s, want %d", length, name, n)
		}
		time.Sleep(50 * time.Microsecond) // the next look
	}
}

func (b *bench) pings(ctx context.Context) ([]time.Duration, error) {
	c := b.dial(0)
	defer c.Close()
	var times []time.Duration
	for range b.handoffs {
		began := time.Now()
		if err := c.Ping(ctx).Err(); err != nil {
			return nil, err
		}
		times = append(times, time.Since(began))
	}
	return times, nil
}

// handOffs lets two callers, on the proxies given, have the lock in turn.
func (b *bench) handOffs(ctx context.Context, first, second int) ([]time.Duration, error) {
	name := b.newName()
	holder, next := b.dial(first), b.dial(second)
	defer holder.Close()
	defer next.Close()
	g := lock(ctx, holder, name)
	var times []time.Duration
	for range b.handoffs {
		granted, err := b.wait(ctx, next, name, 1)
		if g.err != nil || err != nil {
			return nil, fmt.Errorf("%w, %w", g.err, err)
		}
		began := time.Now()
		if err := unlock(ctx, holder, name, g); err != nil {
			return nil, err
		}
		g = <-granted
		times = append(times, g.at.Sub(began))
		holder, next = next, holder
	}
	return times, g.err
}

// runOuts: a lease of 100 ms that nobody gives back.
func (b *bench) runOuts(ctx context.Context) ([]time.Duration, error) {
	return b.eachRound(b.rounds, func(i int) (time.Duration, error) {
		name, lease := b.newName(), 100*time.Millisecond
		holder, next := b.dial(0), b.dial(i%2)
		defer holder.Close()
		defer next.Close()
		g := lock(ctx, holder, name, "PX", lease.Milliseconds())
		if g.err != nil {
			return 0, g.err
		}
		later := lock(ctx, next, name)
		return later.at.Sub(g.at.Add(lease)), later.err
	})
}

func (b *bench) eachRound(rounds int, measure func(i int) (time.Duration, error)) ([]time.Duration, error) {
	var times []time.Duration
	for i := range rounds {
		d, err := measure(i)
		if err != nil {
			return nil, err
		}
		times = append(times, d)
	}
	return times, nil
}

func (b *bench) sessionEnds(ctx context.Context) ([]time.Duration, error) {
	return b.eachRound(b.rounds, func(i int) (time.Duration, error) {
		name := b.newName()
		holder, next := b.dial(0), b.dial(i%2)
		defer next.Close()
		if g := lock(ctx, holder, name, "SESSION"); g.err != nil {
			return 0, g.err
		}
		granted, err := b.wait(ctx, next, name, 1)
		if err != nil {
			return 0, err
		}
		began := time.Now()
		holder.Close()
		g := <-granted
		return g.at.Sub(began), g.err
	})
}

func (b *bench) hangUps(ctx context.Context) ([]time.Duration, error) {
	name := b.newName()
	holder := b.dial(0)
	defer holder.Close()
	if g := lock(ctx, holder, name, "EX", 600); g.err != nil {
		return nil, g.err
	}
	return b.eachRound(b.rounds, func(i int) (time.Duration, error) {
		c := b.dial(i % 2)
		if _, err := b.wait(ctx, c, name, 1); err != nil {
			return 0, err
		}
		began := time.Now()
		c.Close()
		err := b.awaitLine(ctx, name, 0)
		return time.Since(began), err
	})
}

// stuck puts waiters of proxy 1 into line, and one of proxy 0 behind them, breaks
// proxy 1 and measures how long the hand-off to the last takes.
func (b *bench) stuck(ctx context.Context, broken, mended func() error) (time.Duration, error) {
	name := b.newName()
	holder, next := b.dial(0), b.dial(0)
	defer holder.Close()
	defer next.Close()
	g := lock(ctx, holder, name)
	if g.err != nil {
		return 0, g.err
	}
	for i := range waiters {
		c := b.dial(1)
		defer c.Close()
		if _, err := b.wait(ctx, c, name, int64(i+1)); err != nil {
			return 0, err
		}
	}
	granted, err := b.wait(ctx, next, name, waiters+1)
	if err != nil {
		return 0, err
	}
	if err := broken(); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := unlock(ctx, holder, name, g); err != nil {
		return 0, err
	}
	later := <-granted
	if later.err != nil {
		return 0, later.err
	}
	return later.at.Sub(began), mended()
}

func (b *bench) killed(ctx context.Context) ([]time.Duration, error) {
	return b.eachRound(b.rounds, func(int) (time.Duration, error) {
		return b.stuck(ctx, func() error {
			b.proxies[1].Kill()
			return nil
		}, func() error { return b.startProxy(ctx, 1) })
	})
}

func (b *bench) frozen(ctx context.Context) ([]time.Duration, error) {
	return b.eachRound((b.rounds+2)/3, func(int) (time.Duration, error) {
		p := b.proxies[1]
		return b.stuck(ctx, func() error { return freeze(p) }, func() error {
			p.Signal(syscall.SIGCONT)
			return nil
		})
	})
}
