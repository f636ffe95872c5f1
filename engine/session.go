package engine

import "context"

// Session is the caller's own session with Redis: its user, its selected
// database, its place in the order of commands. Scripts asked on behalf of a
// caller run on it, so that Redis itself applies the caller's rights.
type Session interface {
	// Do sends one command and returns Redis's reply: nil, string, int64,
	// float64, bool, []any. Arguments are string, []byte, int or int64. An error
	// reply is returned as a RedisError. Any other error means that the session
	// is lost and the command may or may not have run.
	//
	// Do does not give up when ctx ends: a command that was sent is answered
	// before anything else may follow, and our scripts never block. It ends
	// early only with the session itself.
	Do(ctx context.Context, args ...any) (any, error)

	// DB is the number of the selected database.
	DB() int
}

// RedisError is an error that Redis itself replied, without the leading '-'.
type RedisError string

func (e RedisError) Error() string { return string(e) }
