package proxy

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// unread is the number of bytes that wait in a socket.
func unread(raw syscall.RawConn) (n int) {
	raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n
}
