package main

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

// README begins

// transfer moves money between the balances that are kept at from and to.
func transfer(ctx context.Context, rdb *redis.Client, from, to string, amount int64) error {
	token := rand.Text()
	defer rdb.Do(context.WithoutCancel(ctx), "KS.MUNLOCK", 2, from, to, token)
	if _, err := ask(ctx, rdb, 30*time.Second, "KS.MLOCK", 2, from, to, "PX", 10000, "TOKEN", token); err != nil {
		return err
	}
	source, err := rdb.Get(ctx, from).Int64()
	if err != nil {
		return err
	}
	target, err := rdb.Get(ctx, to).Int64()
	if err != nil {
		return err
	}
	if source < amount {
		return fmt.Errorf("%s has only %d", from, source)
	}
	return rdb.Do(ctx, "KS.GUARD", from, token, "MSET", from, source-amount, to, target+amount).Err()
}

// README ends

// runTransfer moves money between random accounts, so many times.
func runTransfer(ctx context.Context, args []string) error {
	accounts := args[1:]
	say("ready")
	for range number(args[0]) {
		pick := mathrand.Perm(len(accounts))
		if err := transfer(ctx, rdb, accounts[pick[0]], accounts[pick[1]], 1); err != nil {
			return err
		}
	}
	return nil
}
