package proxy

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// unread is the number of bytes that wait in a socket.
func unread(t *testing.T, raw syscall.RawConn) (n int) {
	t.Helper()
	raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n
}
