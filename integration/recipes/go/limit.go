package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// README begins

// turn waits until one more call is allowed: n in any period, whoever makes them.
func turn(ctx context.Context, rdb *redis.Client, name string, n int64, period time.Duration) error {
	count, err := rdb.Incr(ctx, name).Result()
	if err != nil {
		return err
	}
	slot := fmt.Sprintf("%s:%d", name, count%n)
	_, err = ask(ctx, rdb, time.Minute, "KS.LOCK", slot, "PX", period.Milliseconds(), "TOKEN", rand.Text())
	return err // never unlocked: the lease is the limit
}

// README ends

// runLimit takes turns, and tells the test of each.
func runLimit(ctx context.Context, args []string) error {
	say("ready")
	for range number(args[3]) {
		if err := turn(ctx, rdb, args[0], number(args[1]), time.Duration(number(args[2]))*time.Millisecond); err != nil {
			return err
		}
		fmt.Println("turn")
	}
	return nil
}
