//go:build !linux || 386 || s390x

package passthrough

import "syscall"

// inbox reads a socket.
type inbox struct{}

func (*inbox) open(syscall.RawConn) {}

// read reads from a socket in non-blocking mode. Whether it is drained is not known.
func (*inbox) read(fd uintptr, p []byte) (n int, drained bool, errno syscall.Errno) {
	n, err := syscall.Read(int(fd), p)
	if err != nil {
		return 0, false, err.(syscall.Errno)
	}
	return n, false, 0
}

// write writes to a socket in non-blocking mode.
func write(fd uintptr, p []byte) (n int, errno syscall.Errno) {
	n, err := syscall.Write(int(fd), p)
	if err != nil {
		return 0, err.(syscall.Errno)
	}
	return n, 0
}
