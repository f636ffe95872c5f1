package engine

import (
	"errors"
	"strings"
)

var (
	// ErrNotGranted: the lock or promise was not to be had in the time the caller gave, or a later
	// call with the same token took this one's place.
	ErrNotGranted = errors.New("not granted")
	// ErrInvalidName: the name is empty, over 64 KB, or one of the engine's own keys.
	ErrInvalidName = errors.New("invalid lock name")
	// ErrTooManyWaiters: as many calls wait already as Config.MaxWaiters allows.
	ErrTooManyWaiters = errors.New("max number of waiters reached")
)

// DeadlockError: the caller waits for a lock that its own connection holds for as long as it lasts, or has sent
// what gives it back (Behind), an unlock or the end of a promise, where it is not reached before the wait ends.
type DeadlockError struct {
	Name   string
	Behind bool
}

func (e *DeadlockError) Error() string {
	if e.Behind {
		return "what gives back '" + e.Name + "' was sent behind this call on the same connection: use another connection for one of them"
	}
	return "this connection already holds '" + e.Name + "' (SESSION): unlock it first, or ask with the token that has it"
}

// RejectedError is what KS.MEMO callers get when the value was rejected.
type RejectedError struct{ Message string }

func (e *RejectedError) Error() string { return e.Message }

// UnavailableError says why the engine's own part can't serve: it has no connection of its own to
// Redis, or Redis refuses its credentials. The text says what to do about it.
type UnavailableError struct{ Reason string }

func (e *UnavailableError) Error() string { return e.Reason }

// asRedisError makes Redis's words for a right that lacks inside a script those it has outside:
// "ERR The user executing the script can't run this command ..." is a NOPERM like any other.
func asRedisError(words string) RedisError {
	if rest, ok := strings.CutPrefix(words, "ERR "); ok && strings.HasPrefix(rest, "The user executing the script can't") {
		return RedisError("NOPERM " + rest)
	}
	return RedisError(words)
}
