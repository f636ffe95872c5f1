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

	// Exchange sends commands in one write, in the session's place in the order, and
	// returns the reply to each as Redis sent it, in the protocol of the session,
	// errors included; the replies are the caller's. Each command must have exactly
	// one reply, and who sends a MULTI ends it before the session's turn is over.
	// Otherwise as Do.
	Exchange(ctx context.Context, commands ...[]any) ([][]byte, error)

	// Watching reports whether the caller has keys WATCHed, or may have.
	Watching() bool

	// DB is the number of the selected database.
	DB() int

	// Peer says who the caller is. It asks Redis (CLIENT INFO, on the session
	// itself) at the first call and again after the client may have changed its
	// name; what Redis refuses to tell is left empty. An error means that the
	// session is lost.
	Peer(ctx context.Context) (Peer, error)

	// Push sends news that nobody asked for to the client, as a RESP3 push of
	// bulk strings; false if the client does not speak RESP3, or is gone. It may
	// be called by any goroutine at any time, also after the session has ended,
	// and does not wait for the client.
	Push(elements ...string) bool
}

// Peer is the client of a session.
type Peer struct {
	Addr     string // as the proxy sees it: ip:port, or the path of a Unix socket
	Name     string // CLIENT SETNAME
	ID       int64  // Redis's number for the session's connection; 0: not known
	Upstream string // the address of that connection as Redis sees it
}

// RedisError is an error that Redis itself replied, without the leading '-'.
type RedisError string

func (e RedisError) Error() string { return string(e) }
