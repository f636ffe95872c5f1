//go:build !linux

package proxy

import "syscall"

// hungUp reports false: a FIN behind unread input goes unnoticed on this
// system until the input is read.
func hungUp(conn syscall.RawConn) bool {
	return conn.Control(func(uintptr) {}) != nil
}
