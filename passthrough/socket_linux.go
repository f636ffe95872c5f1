//go:build !386 && !s390x

package passthrough

import (
	"syscall"
	"unsafe"
)

const (
	// maxWrite bounds one system call, which the scheduler doesn't know of.
	maxWrite = 256 << 10

	// tcpInq is TCP_INQ and TCP_CM_INQ of linux/tcp.h (Linux 4.18).
	tcpInq = 36
)

// inbox reads a socket and learns with the same system call whether more is
// waiting in it, a FIN included. So the read that would only say EAGAIN, on
// which the poller's edges otherwise depend, is spared.
type inbox struct {
	hints   bool // the socket gives hints
	iov     syscall.Iovec
	msg     syscall.Msghdr
	control [24]byte // a cmsghdr and an int32, padded
}

// open asks the socket for hints. Only TCP has them.
func (b *inbox) open(raw syscall.RawConn) {
	raw.Control(func(fd uintptr) {
		b.hints = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpInq, 1) == nil
	})
}

// read reads from a socket in non-blocking mode. It never blocks, so the
// scheduler need not be told of the system call. drained means that nothing was
// left in the socket: what comes later is an edge of its own to the poller.
func (b *inbox) read(fd uintptr, p []byte) (n int, drained bool, errno syscall.Errno) {
	if !b.hints {
		r, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		if errno != 0 {
			return 0, false, errno
		}
		return int(r), false, 0
	}
	b.iov.Base = unsafe.SliceData(p)
	b.iov.SetLen(len(p))
	b.msg = syscall.Msghdr{Iov: &b.iov, Iovlen: 1, Control: &b.control[0]}
	b.msg.SetControllen(len(b.control))
	r, _, errno := syscall.RawSyscall(syscall.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&b.msg)), 0)
	b.iov.Base = nil
	if errno != 0 {
		return 0, false, errno
	}
	return int(r), b.empty(), 0
}

// empty reports whether the hint says that nothing is left.
func (b *inbox) empty() bool {
	if int(b.msg.Controllen) < syscall.CmsgLen(4) {
		return false
	}
	h := (*syscall.Cmsghdr)(unsafe.Pointer(&b.control[0]))
	return h.Level == syscall.IPPROTO_TCP && h.Type == tcpInq &&
		*(*int32)(unsafe.Pointer(&b.control[syscall.CmsgLen(0)])) == 0
}

// write writes to a socket in non-blocking mode. (sendto spares the file layer
// that write goes through.)
func write(fd uintptr, p []byte) (n int, errno syscall.Errno) {
	r, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))),
		uintptr(min(len(p), maxWrite)), syscall.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), 0
}
