package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// README begins

// ordered has a worker make the value, and waits for it.
func ordered(ctx context.Context, rdb *redis.Client, name string) (string, error) {
	for {
		memo, err := ask(ctx, rdb, time.Minute, "KS.MEMO", name, "EX", 30, "TOKEN", rand.Text())
		if err != nil {
			return "", err
		}
		if memo[0] != "generate" {
			return memo[1].(string), nil
		}
		// We are to make it: pass the token on, then wait as the others do.
		if err := rdb.LPush(ctx, "orders", memo[1].(string)+" "+name).Err(); err != nil {
			return "", err
		}
	}
}

// serve works off one order. All it knows is a name and a token.
func serve(ctx context.Context, rdb *redis.Client, make func(name string) string) error {
	order, err := rdb.BRPop(ctx, 0, "orders").Result()
	if err != nil {
		return err
	}
	token, name, _ := strings.Cut(order[1], " ")
	if n, err := rdb.Do(ctx, "KS.EXTEND", name, token, "EX", 60).Int(); n == 0 || err != nil {
		return err // too old: it has been ordered again
	}
	return rdb.Do(ctx, "KS.RESOLVE", name, token, make(name), "EX", 3600).Err()
}

// README ends

func runOrdered(ctx context.Context, args []string) error {
	value, err := ordered(ctx, rdb, args[0])
	fmt.Println("value", value)
	return err
}

func runServe(ctx context.Context, _ []string) error {
	return serve(ctx, rdb, func(name string) string { return say("makes", name) })
}
