package proxy

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// hungUp reports whether the peer of a socket has closed its sending side or
// the whole connection, also behind input that was not read yet.
func hungUp(conn syscall.RawConn) bool {
	gone := false
	err := conn.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		if n, err := unix.Poll(fds, 0); err == nil && n > 0 {
			gone = fds[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
		}
	})
	return gone || err != nil
}
