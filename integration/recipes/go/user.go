package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// README begins

// user reads a user through the cache. That there is none is kept, too, but not for long.
func user(ctx context.Context, rdb *redis.Client, id string) (string, error) {
	return cached(ctx, rdb, "user:"+id, 10*time.Second, func() (string, time.Duration, error) {
		name, err := selectUser(ctx, id)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return "", 10 * time.Second, errors.New("no such user")
		case err != nil:
			return "", 0, err
		}
		return name, 5 * time.Minute, nil
	})
}

// rename changes the database, and then has the cache forget what came from it.
func rename(ctx context.Context, rdb *redis.Client, id, name string) error {
	if err := updateUser(ctx, id, name); err != nil {
		return err
	}
	return rdb.Do(ctx, "KS.FORGET", "user:"+id).Err()
}

// README ends

// README begins

// nickname is empty for most; that is a value like any other, kept for as long as one likes.
func nickname(ctx context.Context, rdb *redis.Client, id string) (string, error) {
	return cached(ctx, rdb, "nickname:"+id, 10*time.Second, func() (string, time.Duration, error) {
		name, err := selectNickname(ctx, id)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return "", time.Minute, nil
		case err != nil:
			return "", 0, err
		}
		return name, 5 * time.Minute, nil
	})
}

// README ends

// The test is the database.
func selectUser(_ context.Context, id string) (string, error) {
	switch answer := say("select", id); {
	case answer == "none":
		return "", sql.ErrNoRows
	case strings.HasPrefix(answer, "broken"):
		return "", errors.New(answer)
	default:
		return answer, nil
	}
}

var selectNickname = selectUser

func updateUser(_ context.Context, id, name string) error {
	say("update", id, name)
	return nil
}

func runUser(ctx context.Context, args []string) error     { return read(ctx, user, args[0]) }
func runNickname(ctx context.Context, args []string) error { return read(ctx, nickname, args[0]) }

func read(ctx context.Context, from func(context.Context, *redis.Client, string) (string, error), id string) error {
	if name, err := from(ctx, rdb, id); err != nil {
		fmt.Println("error", err)
	} else {
		fmt.Println("value", name)
	}
	return nil
}

func runRename(ctx context.Context, args []string) error { return rename(ctx, rdb, args[0], args[1]) }
