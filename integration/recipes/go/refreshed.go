package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// README begins

// refreshed is cached for values that may be old: when one is no longer fresh, who asks first computes the next,
// and for as long as stale all others get the old one at once.
func refreshed(ctx context.Context, rdb *redis.Client, name string, lease, fresh, stale time.Duration,
	compute func() (string, error),
) (string, error) {
	token := rand.Text()
	memo, err := ask(ctx, rdb, 2*lease, "KS.MEMO", name, "PX", lease.Milliseconds(), "TOKEN", token)
	if err != nil {
		return "", err
	}
	if memo[0] != "generate" {
		return memo[1].(string), nil // "value" or "stale"
	}
	value, err := compute()
	if err != nil {
		rdb.Do(ctx, "KS.UNLOCK", name, token) // the next one tries; the others have the old value
		return "", err
	}
	return value, rdb.Do(ctx, "KS.RESOLVE", name, token, value,
		"PX", fresh.Milliseconds(), "STALE", stale.Milliseconds()).Err()
}

// README ends

// runRefreshed asks for a value that is fresh for so many milliseconds.
func runRefreshed(ctx context.Context, args []string) error {
	fresh := time.Duration(number(args[0])) * time.Millisecond
	value, err := refreshed(ctx, rdb, "weather:arendelle", time.Minute, fresh, time.Hour, func() (string, error) {
		return say("computes"), nil
	})
	fmt.Println("value", value)
	return err
}
