// Package integration checks what keysmith-proxy promises on the real thing:
// the built binary, a real redis-server, raw bytes.
//
// Its heart is differential: the same bytes go to a redis-server directly and
// through the proxy, and the reply bytes and the way each connection ends must
// be equal. The inputs are tables of everything about the protocol that a proxy
// can get wrong, and random streams. The few differences that are allowed are
// in allowed_test.go, each with its reason.
//
// Run it long with
//
//	go test ./integration -run TestRandomStreams -diff.duration=10m -diff.seed=1
package integration
