package commands

import (
	"errors"

	"github.com/keysmith-proxy/keysmith-proxy/engine"
)

// Session is the client on whose behalf a command runs.
type Session interface {
	engine.Session

	// RESP is the protocol version the client speaks, 2 or 3.
	RESP() int
}

// Causes (context.Cause) for which the context of a running command ends.
var (
	// ErrHangUp: the client closed its sending side or its connection.
	ErrHangUp = errors.New("client hung up")
	// ErrUpstreamLost: the session's connection to Redis broke.
	ErrUpstreamLost = errors.New("connection to redis lost")
	// ErrShutdown: the proxy shuts down.
	ErrShutdown = errors.New("proxy is shutting down")
)
