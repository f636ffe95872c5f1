//go:build !linux

package passthrough

import "syscall"

// read reads from a socket that is in non-blocking mode.
func read(fd uintptr, p []byte) (n int, errno syscall.Errno) {
	n, err := syscall.Read(int(fd), p)
	if err != nil {
		return 0, err.(syscall.Errno)
	}
	return n, 0
}

// write writes to a socket that is in non-blocking mode.
func write(fd uintptr, p []byte) (n int, errno syscall.Errno) {
	n, err := syscall.Write(int(fd), p)
	if err != nil {
		return 0, err.(syscall.Errno)
	}
	return n, 0
}
