package passthrough

import (
	"syscall"
	"unsafe"
)

// read reads from a socket that is in non-blocking mode. It never blocks, so
// the scheduler need not be told of the system call.
func read(fd uintptr, p []byte) (n int, errno syscall.Errno) {
	r, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(r), 0
}

// maxWrite bounds one system call, which the scheduler doesn't know of.
const maxWrite = 256 << 10

// write writes to a socket that is in non-blocking mode.
func write(fd uintptr, p []byte) (n int, errno syscall.Errno) {
	r, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(min(len(p), maxWrite)))
	if errno != 0 {
		return 0, errno
	}
	return int(r), 0
}
