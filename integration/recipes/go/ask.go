package main

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// README begins

// ask calls KS.LOCK or KS.MEMO until it is granted or patience ends (redis.Nil).
func ask(ctx context.Context, rdb *redis.Client, patience time.Duration, args ...any) ([]any, error) {
	args = append(args, "WAIT", 2000) // below the read time-out
	for end := time.Now().Add(patience); ; {
		reply, err := rdb.Do(ctx, args...).Slice()
		if !errors.Is(err, redis.Nil) || time.Now().After(end) {
			return reply, err
		}
	}
}

// README ends

// README begins

// locked runs f while it holds the lock on name.
func locked(ctx context.Context, rdb *redis.Client, name string, lease time.Duration,
	f func(token string, fence int64) error,
) error {
	token := rand.Text()
	// After an error, too: the lock may have been granted, and the reply lost.
	defer rdb.Do(context.WithoutCancel(ctx), "KS.UNLOCK", name, token)
	lock, err := ask(ctx, rdb, 30*time.Second, "KS.LOCK", name, "PX", lease.Milliseconds(), "TOKEN", token)
	if err != nil {
		return err // redis.Nil: it was not free in time
	}
	return f(token, lock[1].(int64))
}

// README ends
