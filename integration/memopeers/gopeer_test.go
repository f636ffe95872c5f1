package memopeers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// goPeerEnv, in the environment, makes this test binary the peer in Go; its value is the address of Redis. The
// commands are those of python/memolock.py.
const goPeerEnv = "KEYSMITH_TEST_GO_PEER"

type goPeer struct {
	client     *redis.Client
	key, token string
}

func runGoPeer(addr string) {
	p := &goPeer{client: redis.NewClient(&redis.Options{Addr: addr})}
	fmt.Println("ready go-redis", redis.Version())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		command, rest, _ := strings.Cut(lines.Text(), " ")
		if err := p.do(context.Background(), command, rest); err != nil {
			fmt.Println("error", err)
		}
	}
	os.Exit(0)
}

func (p *goPeer) do(ctx context.Context, command, rest string) error {
	switch command {
	case "ask":
		var key string
		var lock, patience int64
		if _, err := fmt.Sscan(rest, &key, &lock, &patience); err != nil {
			return err
		}
		return p.ask(ctx, key, time.Duration(lock)*time.Millisecond, time.Duration(patience)*time.Millisecond)
	case "store":
		ms, value, _ := strings.Cut(rest, " ")
		ttl, err := strconv.ParseInt(ms, 10, 64)
		if err != nil {
			return err
		}
		return p.store(ctx, time.Duration(ttl)*time.Millisecond, value)
	case "renew":
		ms, err := strconv.ParseInt(rest, 10, 64)
		if err != nil {
			return err
		}
		return p.renew(ctx, time.Duration(ms)*time.Millisecond)
	default: // fail: the lock is kept, and nobody is told
		fmt.Println("failed")
		return nil
	}
}

// names are lock, channel and pattern that belong to a key.
func names(key string) (lock, channel, pattern string) {
	tag, id, _ := strings.Cut(key, ":")
	return tag + "/lock:" + id, tag + "/notif:" + id, tag + "/notif:*"
}

func (p *goPeer) ask(ctx context.Context, key string, lockTTL, patience time.Duration) error {
	began := time.Now()
	value, err := p.client.Get(ctx, key).Result()
	if err == nil {
		fmt.Println("hit", value)
		return nil
	}
	if !errors.Is(err, redis.Nil) {
		return err
	}
	lock, channel, pattern := names(key)
	token := fmt.Sprintf("%08x-%04x-4%03x-%012x", rand.Uint32(), rand.N(1<<16), rand.N(1<<12), rand.N(1<<48))
	first, err := p.client.SetNX(ctx, lock, token, lockTTL).Result() // 0: no TTL
	if err != nil {
		return err
	}
	if first {
		p.key, p.token = key, token
		fmt.Println("generates", token)
		return nil
	}
	sub := p.client.PSubscribe(ctx, pattern)
	defer sub.Close()
	if _, err := sub.Receive(ctx); err != nil {
		return err
	}
	value, err = p.client.Get(ctx, key).Result() // it may have come just before
	fmt.Println("waits")
	if err == nil {
		fmt.Println("value", time.Since(began).Milliseconds(), value)
		return nil
	}
	timeout := time.After(patience)
	for {
		select {
		case m := <-sub.Channel():
			if m.Channel == channel {
				fmt.Println("value", time.Since(began).Milliseconds(), m.Payload)
				return nil
			}
		case <-timeout:
			fmt.Println("timeout", time.Since(began).Milliseconds())
			return nil
		}
	}
}

// store leaves the lock where it is.
func (p *goPeer) store(ctx context.Context, ttl time.Duration, value string) error {
	_, channel, _ := names(p.key)
	_, err := p.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Set(ctx, p.key, value, ttl)
		pipe.Publish(ctx, channel, value)
		return nil
	})
	if err == nil {
		fmt.Println("stored")
	}
	return err
}

var renewal = redis.NewScript(`
	if redis.call('GET', KEYS[1]) == ARGV[1] then
		redis.call('EXPIRE', KEYS[1], ARGV[2])
		return 1
	else
		return 0
	end`)

// renew hands nanoseconds to EXPIRE, which takes seconds: so does the library.
func (p *goPeer) renew(ctx context.Context, ttl time.Duration) error {
	lock, _, _ := names(p.key)
	n, err := renewal.Run(ctx, p.client, []string{lock}, p.token, int64(ttl)).Int()
	if err == nil {
		fmt.Println("renewed", n)
	}
	return err
}
