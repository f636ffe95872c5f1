package proxy

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/commands"
)

// Handler runs the commands that the proxy answers itself.
type Handler interface {
	// Knows reports whether name (any case) is such a command. It is called for
	// every request whose name could be one and must not allocate.
	Knows(name []byte) bool

	// Run executes the command args (args[0] is its name) for s and appends its
	// RESP reply to dst. With dst nil the result may be that of others, too, so nobody
	// may change it. It may block; ctx ends when the client hangs up, Redis
	// is lost or the proxy shuts down, and context.Cause says which: ErrHangUp,
	// ErrUpstreamLost or ErrShutdown. args are valid until Run returns.
	Run(ctx context.Context, s commands.Session, args [][]byte, dst []byte) []byte

	// Read returns the key of which a GET answers the command args if it finds a string, and false for
	// commands of which none does. args may be anything; the key is part of them.
	Read(args [][]byte) (key []byte, ok bool)

	// AppendFound appends the reply to such a command, made from Redis's reply to that GET; false, if it has to be
	// run.
	AppendFound(dst, reply []byte) ([]byte, bool)

	// Ahead is told that the client has sent a command of ours, args, behind the
	// one that runs, or will in a moment. It must not block; args are valid during
	// the call. Of a command that is still arriving, the arguments that are to come are nil; it
	// is told again of more. It is called by another goroutine, and in the end with nil: what it
	// told is over.
	Ahead(s commands.Session, args [][]byte)

	// Ended is told that the connection of s, for which Run was called, has ended
	// or was RESET: what s was given for as long as it lasts is taken back. No Run
	// for s is under way, and what was sent behind a RESET runs after Ended has
	// returned. It must not block.
	Ended(s commands.Session)
}

// Listener is a place where clients connect.
type Listener struct {
	net.Listener
	TLS *tls.Config // nil for a plain listener
}

// Config says how a Server behaves. The zero value of an optional field means
// its default.
type Config struct {
	// Listeners are open; the Server owns and closes them.
	Listeners []Listener

	// Dial opens a connection to Redis, with TLS already established where the
	// upstream asks for it. The Server bounds it by ctx (2 s).
	Dial func(ctx context.Context) (net.Conn, error)

	// UpstreamLocal says that Redis is reached over loopback or a Unix socket;
	// together with ProtectedMode it makes the Server refuse remote clients
	// while Redis accepts unauthenticated commands.
	UpstreamLocal bool
	ProtectedMode bool

	Handler Handler

	MaxClients int           // default 10000
	Timeout    time.Duration // close clients idle for that long; 0 never
	KeepAlive  time.Duration // TCP keep-alive period of both legs; 0 off
	// UpstreamTimeout is Redis's own "timeout" directive: the lane of a client that waits in
	// a command of ours is pinged every third of it. 0 means Redis closes nobody;
	// default (negative) unknown, every 60 s taken.
	UpstreamTimeout time.Duration

	Logger *slog.Logger // default: discards
}
