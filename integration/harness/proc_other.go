//go:build !linux

package harness

import "testing"

const onlyLinux = "what a process uses is known on Linux only"

// Memory skips the test: there is no /proc here.
func (p *Process) Memory(t testing.TB, _ string) int64 {
	t.Helper()
	t.Skip(onlyLinux)
	return 0
}

// Files skips the test: there is no /proc here.
func (p *Process) Files(t testing.TB) int {
	t.Helper()
	t.Skip(onlyLinux)
	return 0
}

// Freeze skips the test: nothing tells here when a process has stopped.
func (p *Process) Freeze(t testing.TB) {
	t.Helper()
	t.Skip(onlyLinux)
}
