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

var errDeposed = errors.New("no longer the leader")

// lead waits until this process is the leader, and runs work until that returns. When
// leadership is lost, or ctx ends, so does work's ctx: work must stop then.
func lead(ctx context.Context, role string, work func(ctx context.Context, fence int64)) error {
	conn := redis.NewClient(&redis.Options{
		Addr: addr, PoolSize: 1, MaxRetries: -1, ReadTimeout: -1, ContextTimeoutEnabled: true,
	})
	defer conn.Close() // lets go
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	token := rand.Text()
	lock, err := conn.Do(ctx, "KS.LOCK", role, "SESSION", "TOKEN", token).Slice()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); work(ctx, lock[1].(int64)) }()
	defer func() { stop(); <-done }() // first work ends, then somebody else may lead
	for {
		select {
		case <-done:
			return nil
		case <-time.After(time.Second):
		}
		soon, cancel := context.WithTimeout(ctx, 5*time.Second)
		held, err := conn.Do(soon, "KS.EXTEND", role, token, "EX", 60).Int() // changes nothing; 1: still ours
		cancel()
		if err != nil {
			return err
		}
		if held == 0 {
			return errDeposed
		}
	}
}

// README ends

// runLead leads a role until the connection is lost or the process killed.
func runLead(ctx context.Context, args []string) error {
	role, me := args[0], args[1]
	err := lead(ctx, role, func(ctx context.Context, fence int64) {
		fmt.Println("leads", me, fence)
		<-ctx.Done()
	})
	fmt.Println("deposed", me)
	if errors.Is(err, errDeposed) {
		return nil
	}
	return err
}
