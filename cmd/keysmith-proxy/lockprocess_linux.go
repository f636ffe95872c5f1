package main

import "syscall"

// boundTo lets the command have s when this process dies, however it does: the lock
// is released at that moment, so it is a loss as any other. 0: nothing.
func boundTo(s syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: s}
}
