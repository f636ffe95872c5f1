package harness

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// spawner is the thread that starts all processes. Linux delivers the parent
// death signal when the starting *thread* ends, so that thread must live as
// long as the test process.
var spawner = sync.OnceValue(func() chan<- func() {
	jobs := make(chan func())
	go func() {
		runtime.LockOSThread()
		for job := range jobs {
			job()
		}
	}()
	return jobs
})

// startBound starts cmd so that it dies with this process, however that ends.
func startBound(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	done := make(chan error)
	spawner() <- func() { done <- cmd.Start() }
	return <-done
}
