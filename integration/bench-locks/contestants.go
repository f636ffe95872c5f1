package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/bsm/redislock"
	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidislock"

	"github.com/keysmith-proxy/keysmith-proxy/integration/process"
)

// lease is how long a lock lives that nobody gives back: far longer than a run,
// so that none ever ends by itself.
const lease = 30 * time.Second

// A contestant is one way to lock, with everything it needs connected.
type contestant struct {
	name     string
	settings string // what a reader of its figures has to know
	lock     lockFunc
	relay    *process.Server // between it and Redis; nil if there is none
	close    func()
	again    atomic.Int64 // waits that were given up as hopeless and begun again
}

// A lockFunc waits for the lock on a name. What it returns gives the lock back,
// and fails if the lock was not held any more.
type lockFunc func(ctx context.Context, name string) (unlock func(context.Context) error, err error)

var constructors = map[string]func(*bench) (*contestant, error){
	"ks": newKS, "redislock": newRedislock, "redsync": newRedsync, "rueidislock": newRueidislock,
	throughHAProxy: newRedislockThroughHAProxy,
}

func contestantNames() []string { return slices.Sorted(maps.Keys(constructors)) }

// newClient connects to a server as all but rueidislock do: a connection for
// each worker, and no command sent twice, which would be counted as one.
func (b *bench) newClient(addr string) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: addr, PoolSize: b.workers, MaxRetries: -1, ReadTimeout: time.Minute})
}

func newKS(b *bench) (*contestant, error) {
	client := b.newClient(b.proxy.Addr())
	return &contestant{
		relay:    b.proxy,
		settings: fmt.Sprintf("go-redis through the proxy, %d connections, KS.LOCK name PX %d, KS.UNLOCK name token", b.workers, lease.Milliseconds()),
		lock: func(ctx context.Context, name string) (func(context.Context) error, error) {
			granted, err := client.Do(ctx, "KS.LOCK", name, "PX", lease.Milliseconds()).Slice()
			if err != nil {
				return nil, err
			}
			return func(ctx context.Context) error {
				n, err := client.Do(ctx, "KS.UNLOCK", name, granted[0]).Int()
				if err == nil && n != 1 {
					err = fmt.Errorf("KS.UNLOCK answers %d", n)
				}
				return err
			}, nil
		},
		close: func() { client.Close() },
	}, nil
}

// throughHAProxy tells what a relay in between costs that knows nothing of locks.
const throughHAProxy = "redislock-haproxy"

func newRedislockThroughHAProxy(b *bench) (*contestant, error) {
	c, err := b.newRedislockTo(b.haproxy)
	c.relay, c.settings = b.haproxy, c.settings+", through haproxy in TCP mode"
	return c, err
}

func newRedislock(b *bench) (*contestant, error) { return b.newRedislockTo(b.redis) }

func (b *bench) newRedislockTo(server *process.Server) (*contestant, error) {
	client := b.newClient(server.Addr())
	locker := redislock.New(client)
	opts := &redislock.Options{RetryStrategy: redislock.LinearBackoff(b.retry)}
	return &contestant{
		settings: fmt.Sprintf("go-redis, %d connections, Obtain with a TTL of %v, LinearBackoff(%v) without limit", b.workers, lease, b.retry),
		lock: func(ctx context.Context, name string) (func(context.Context) error, error) {
			lock, err := locker.Obtain(ctx, name, lease, opts)
			if err != nil {
				return nil, err
			}
			return lock.Release, nil
		},
		close: func() { client.Close() },
	}, nil
}

func newRedsync(b *bench) (*contestant, error) {
	client := b.newClient(b.redis.Addr())
	rs := redsync.New(goredis.NewPool(client))
	return &contestant{
		settings: fmt.Sprintf("one pool of go-redis, %d connections, WithExpiry(%v), WithRetryDelay(%v), WithTries without limit", b.workers, lease, b.retry),
		lock: func(ctx context.Context, name string) (func(context.Context) error, error) {
			mutex := rs.NewMutex(name, redsync.WithExpiry(lease), redsync.WithRetryDelay(b.retry), redsync.WithTries(math.MaxInt32))
			if err := mutex.LockContext(ctx); err != nil {
				return nil, err
			}
			return func(ctx context.Context) error {
				held, err := mutex.UnlockContext(ctx)
				if err == nil && !held {
					err = redsync.ErrLockAlreadyExpired
				}
				return err
			}, nil
		},
		close: func() { client.Close() },
	}, nil
}

// hopeless is when a wait in rueidislock begins again. On a busy machine it
// happens that nobody has the lock and all wait without end.
const hopeless = 5 * time.Second

func newRueidislock(b *bench) (*contestant, error) {
	locker, err := rueidislock.NewLocker(rueidislock.LockerOption{
		ClientOption:   rueidis.ClientOption{InitAddress: []string{b.redis.Addr()}},
		KeyMajority:    1,
		NoLoopTracking: true,
		KeyValidity:    lease,
	})
	if err != nil {
		return nil, err
	}
	c := &contestant{
		settings: fmt.Sprintf("one Locker for all workers, who queue within the process and share one connection with client-side caching; "+
			"KeyMajority 1, NoLoopTracking, KeyValidity %v, waits of %v begin again", lease, hopeless),
		close: locker.Close,
	}
	c.lock = func(ctx context.Context, name string) (func(context.Context) error, error) {
		for {
			bounded, cancel := context.WithTimeout(ctx, hopeless)
			held, release, err := locker.WithContext(bounded, name)
			if err == nil {
				return func(context.Context) error {
					defer cancel()
					err := held.Err() // release tells nothing
					release()
					return err
				}, nil
			}
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
				return nil, err
			}
			c.again.Add(1)
		}
	}
	return c, nil
}
