package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// add adds 1 to a total, so many times, by reading and writing it.
func add(ctx context.Context, args []string) error {
	name := args[0]
	say("ready")
	for range number(args[1]) {
		err := locked(ctx, rdb, name, 30*time.Second, func(string, int64) error {
			total, err := rdb.Get(ctx, name).Int64()
			if err != nil {
				return err
			}
			return rdb.Set(ctx, name, total+1, 0).Err()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// patience asks for a lock that nobody gives back.
func patience(ctx context.Context, args []string) error {
	began := time.Now()
	_, err := ask(ctx, rdb, 2*time.Second, "KS.LOCK", args[0], "TOKEN", rand.Text())
	if !errors.Is(err, redis.Nil) {
		return fmt.Errorf("not nil: %w", err)
	}
	fmt.Println("nil", time.Since(began).Milliseconds())
	return nil
}

// dine eats with two forks, so many times.
func dine(ctx context.Context, args []string) error {
	me, left, right := args[0], args[1], args[2]
	tell := func(what string) { rdb.RPush(ctx, "meals", me+" "+what) }
	say("ready")
	for range number(args[3]) {
		tell("hungers")
		token := rand.Text()
		if _, err := ask(ctx, rdb, time.Minute, "KS.MLOCK", 2, left, right, "PX", 30000, "TOKEN", token); err != nil {
			return err
		}
		tell("begins")
		time.Sleep(20 * time.Millisecond) // it is long to eat, and short to do all else
		tell("ends")
		if n, err := rdb.Do(ctx, "KS.MUNLOCK", 2, left, right, token).Int(); n != 2 || err != nil {
			return fmt.Errorf("%d forks put down: %w", n, err)
		}
	}
	return nil
}
