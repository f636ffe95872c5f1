package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrWatching: the caller has keys WATCHed. EXEC would end that, and could be aborted by them.
var ErrWatching = errors.New("KS.GUARD is not allowed while keys are watched")

// LockLostError: the token does not hold the lock, so nothing was run.
type LockLostError struct{ Name string }

func (e *LockLostError) Error() string {
	return "the token does not hold the lock on '" + e.Name + "', so nothing was run: " +
		"get the lock again, and read again what the command was based on"
}

// AbortedError: the key of the lock was touched between each look at it and the command, though the token
// holds it all the time. Nothing was run.
type AbortedError struct {
	Name  string
	Times int
}

func (e *AbortedError) Error() string {
	return "the lock on '" + e.Name + "' was written to " + strconv.Itoa(e.Times) + " times while KS.GUARD " +
		"tried to run the command, which it did not: try again, or find out who writes its key all the time"
}

// mostAborts is how often a guarded command is tried while the token holds the lock. A renewal, once in a third
// of the lease, or a KS.EXTEND costs one try; only a loop of writes to the lock's key takes as many.
const mostAborts = 100

// Guard runs command if and only if token holds the lock on name at that moment, as one step inside Redis, and
// returns the reply as Redis sent it, also if it is an error; it is the caller's. command must have exactly one
// reply and leave the connection as it is. Errors: LockLostError, AbortedError and ErrWatching, by which nothing
// was run; ErrInvalidName, UnavailableError and that of a session that is lost as for Lock. What Redis refuses of
// the steps around command is a RedisError, and nothing was run either.
//
// It is a transaction on the caller's session, and no script: a script rounds integers beyond 2^53, flattens
// what RESP3 has, and takes no more than 8000 arguments. Whatever becomes of it, the session is left as
// it was, neither in MULTI nor with a key watched.
func (e *Engine) Guard(ctx context.Context, s Session, name, token string, command [][]byte) ([]byte, error) {
	k, _, err := e.locate(s, name)
	if err != nil {
		return nil, err
	}
	if s.Watching() {
		return nil, ErrWatching
	}
	g := guard{s: s, name: name, lock: k.lock, token: token, command: make([]any, len(command))}
	for i, arg := range command {
		g.command[i] = arg
	}
	for range mostAborts {
		if err := g.begin(ctx); err != nil {
			return nil, err
		}
		if reply, err := g.run(ctx); reply != nil || err != nil {
			return reply, err
		}
	}
	return nil, &AbortedError{name, mostAborts}
}

// guard is a call of Guard.
type guard struct {
	s                 Session
	name, lock, token string
	command           []any
}

// begin opens a transaction that runs only if token, which holds the lock now, has it without a break until
// then. MULTI belongs to this round trip: were it sent with the command and refused, the command would
// be run all the same.
func (g *guard) begin(ctx context.Context) error {
	replies, err := g.s.Exchange(ctx, []any{"WATCH", g.lock}, []any{"GET", g.lock}, []any{"MULTI"})
	if err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	watched, owner, multi := replies[0], replies[1], replies[2]
	held := "$" + strconv.Itoa(len(g.token)) + "\r\n" + g.token + "\r\n"
	var refused error
	for _, reply := range replies {
		if refused == nil && isError(reply) {
			refused = asError(reply)
		}
	}
	switch {
	case refused == nil && string(owner) == held && g.token != "":
		return nil
	case refused == nil:
		refused = &LockLostError{g.name}
	}
	if err := g.abandon(ctx, !isError(watched), !isError(multi)); err != nil {
		return err
	}
	return refused
}

// abandon ends what begin has begun and may not go on with. An EXEC of nothing does what DISCARD does, and a
// user who may not DISCARD gets rid of the transaction as well: Redis ends it even if it refuses the EXEC.
func (g *guard) abandon(ctx context.Context, watched, multi bool) error {
	var err error
	switch {
	case multi:
		_, err = g.s.Exchange(ctx, []any{"EXEC"})
	case watched: // who may neither MULTI nor UNWATCH keeps it, and can do nothing that it would disturb
		_, err = g.s.Exchange(ctx, []any{"UNWATCH"})
	}
	if err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	return nil
}

// aborted is how an EXEC ends that Redis refuses to run; its reason follows.
const aborted = "-EXECABORT Transaction discarded because of: "

// run runs the command. No reply and no error: it was not, because the lock's key was touched.
func (g *guard) run(ctx context.Context) ([]byte, error) {
	replies, err := g.s.Exchange(ctx, g.command, []any{"EXEC"})
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	queued, exec := replies[0], replies[1]
	one := []byte("*1\r\n")
	switch {
	case isError(queued):
		return queued, nil
	case bytes.HasPrefix(exec, one):
		return exec[len(one):], nil
	case string(exec) == "*-1\r\n" || string(exec) == "_\r\n":
		return nil, nil
	case bytes.HasPrefix(exec, []byte(aborted)):
		return append([]byte("-"), exec[len(aborted):]...), nil
	case isError(exec):
		return nil, asError(exec)
	}
	return nil, fmt.Errorf("guard: EXEC of one command replied %.20q", exec)
}

func isError(reply []byte) bool { return bytes.HasPrefix(reply, []byte("-")) }

// asError turns an error reply into a RedisError.
func asError(reply []byte) RedisError {
	return RedisError(strings.TrimRight(string(reply[1:]), "\r\n"))
}
