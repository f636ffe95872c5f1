// Package memopeers checks that memo locks are shared with processes that use redis-memolock: they know the
// keys of value and lock and the channel, and nothing of the proxy.
//
// Its peers keep to what the library does, on the ordinary client library of their language, each in a process of
// its own: one in Go, which like the library in Go leaves its lock behind and renews it for centuries, one in Python,
// which deletes it as the library in C# does. What a peer saw is in the log:
//
//	go test -v ./integration/memopeers | grep -o 'peer | .*'
package memopeers
