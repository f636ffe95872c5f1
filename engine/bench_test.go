package engine

import (
	"context"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"
)

// BenchmarkScripts measures scripts on a real Redis, round trip over a Unix socket included; ping is the
// round trip alone. A hand-over is an unlock and the claim that follows; its line is kept at a length.
func BenchmarkScripts(b *testing.B) {
	if realRedis == "" {
		b.Skip("redis-server is not installed")
	}
	c := redis.NewClient(&redis.Options{Network: "unix", Addr: realRedis})
	defer c.Close()
	own := ownConn{c}
	k, _ := keysOf("x:n", "first")
	run := func(b *testing.B, s *script, instance string, rest ...any) []any {
		args := append([]any{"", 0, instance, "x:n", k.locknotif, 30000}, rest...)
		reply, err := s.run(context.Background(), own, k.ofLine(), args)
		if err != nil {
			b.Fatal(err)
		}
		return reply.([]any)
	}
	ask := func(b *testing.B, instance string, n int, first int) any {
		return run(b, askLockScript, instance, fmt.Sprint("t", n), n, first, 30000, 0, 0)[0]
	}
	b.Run("ping", func(b *testing.B) {
		for b.Loop() {
			c.Ping(context.Background())
		}
	})
	b.Run("lock_and_unlock", func(b *testing.B) {
		c.FlushAll(context.Background())
		for b.Loop() {
			ask(b, "A", 1, 1)
			run(b, releaseScript, "A", "t1")
		}
	})
	for _, length := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("hand_over_and_rejoin/waiting=%d", length), func(b *testing.B) {
			c.FlushAll(context.Background())
			for n := range length + 1 {
				ask(b, "A", n, 1)
			}
			n := 0
			for b.Loop() {
				run(b, releaseScript, "A", fmt.Sprint("t", n))
				if got := ask(b, "A", n+1, 0); got != "granted" {
					b.Fatal(got)
				}
				ask(b, "A", n+length+1, 1)
				n++
			}
		})
	}
}
