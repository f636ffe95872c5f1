//go:build !linux

package proxy

import (
	"syscall"
	"testing"
)

// unread is the number of bytes that wait in a socket, which this system is not
// asked for.
func unread(t *testing.T, _ syscall.RawConn) int {
	t.Helper()
	t.Skip("needs Linux")
	return 0
}
