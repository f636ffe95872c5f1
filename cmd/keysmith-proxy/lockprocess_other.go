//go:build !linux

package main

import "syscall"

// boundTo can't bind the command to this process here: if this one is killed, the
// command runs on without the lock.
func boundTo(syscall.Signal) *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
