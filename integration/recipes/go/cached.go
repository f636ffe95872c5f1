package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// README begins

// cached returns the value of name. Where there is none, one of all who ask computes it, within lease, and says how
// long to keep it: 0 is for ever. An error is told to all who wait, and if it is kept, to all who ask in that time.
func cached(ctx context.Context, rdb *redis.Client, name string, lease time.Duration,
	compute func() (value string, keep time.Duration, err error),
) (string, error) {
	token := rand.Text()
	memo, err := ask(ctx, rdb, 2*lease, "KS.MEMO", name, "PX", lease.Milliseconds(), "TOKEN", token)
	if err != nil {
		return "", err // MEMOERR: the error of who computed it; redis.Nil: not in time
	}
	if memo[0] != "generate" {
		return memo[1].(string), nil
	}
	value, keep, err := compute()
	outcome := []any{"KS.RESOLVE", name, token, value}
	if err != nil {
		outcome = []any{"KS.REJECT", name, token, err.Error()}
	}
	if keep > 0 {
		outcome = append(outcome, "PX", keep.Milliseconds())
	}
	return value, errors.Join(err, rdb.Do(ctx, outcome...).Err())
}

// README ends

// runReport computes a report that takes a while, or gets it.
func runReport(ctx context.Context, args []string) error {
	slow := time.Duration(number(args[0])) * time.Millisecond
	makeReport := func() string {
		fmt.Println("computes")
		time.Sleep(slow)
		return "the report"
	}
	say("ready")
	began := time.Now()
	// README begins
	report, err := cached(ctx, rdb, "report:2026-11", time.Minute, func() (string, time.Duration, error) {
		return makeReport(), time.Hour, nil
	})
	// README ends
	fmt.Println("has", report, time.Since(began).Milliseconds())
	return err
}
