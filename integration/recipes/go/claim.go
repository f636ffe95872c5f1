package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// README begins

// once does a job unless it is done. Its result, kept in the hash jobs:done, is the mark.
func once(ctx context.Context, rdb *redis.Client, job string, do func(fence int64) (string, error)) error {
	return locked(ctx, rdb, "job:"+job, time.Minute, func(token string, fence int64) error {
		done, err := rdb.HExists(ctx, "jobs:done", job).Result() // look when the lock is yours, not before
		if done || err != nil {
			return err
		}
		result, err := do(fence)
		if err != nil {
			return err // the next one tries it
		}
		// LOCKLOST: do took too long, and the job is somebody else's.
		return rdb.Do(ctx, "KS.GUARD", "job:"+job, token, "HSET", "jobs:done", job, result).Err()
	})
}

// README ends

// runClaim does all jobs that it is told, as the test lets it.
func runClaim(ctx context.Context, args []string) error {
	me := args[0]
	say("ready")
	for _, job := range args[1:] {
		err := once(ctx, rdb, job, func(int64) (string, error) {
			rdb.RPush(ctx, "jobs:begun", job)
			if job == "slow" {
				say("works", me)
			}
			return me, nil
		})
		switch {
		case err == nil:
		case redis.HasErrorPrefix(err, "LOCKLOST"):
			fmt.Println("lost", job)
		default:
			return errors.Join(fmt.Errorf("job %s", job), err)
		}
	}
	return nil
}
