package commands

import "github.com/keysmith-proxy/keysmith-proxy/engine"

// Session is the client on whose behalf a command runs.
type Session interface {
	engine.Session

	// RESP is the protocol version the client speaks, 2 or 3.
	RESP() int
}
