package main

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// README begins

// update replaces the value of key by what f makes of it. No other update gets lost,
// however long f takes.
func update(ctx context.Context, rdb *redis.Client, key string, f func(string) string) error {
	for {
		err := locked(ctx, rdb, key, 10*time.Second, func(token string, _ int64) error {
			old, err := rdb.Get(ctx, key).Result() // read when the lock is yours, not before
			if err != nil && !errors.Is(err, redis.Nil) {
				return err
			}
			return rdb.Do(ctx, "KS.GUARD", key, token, "SET", key, f(old)).Err()
		})
		if !redis.HasErrorPrefix(err, "LOCKLOST") { // else it took too long: again, from what is there now
			return err
		}
	}
}

// README ends

// runUpdate appends a word to a value; the test has it wait in between.
func runUpdate(ctx context.Context, args []string) error {
	return update(ctx, rdb, args[0], func(old string) string {
		say("read", old)
		return old + args[1]
	})
}
