package main

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// lossPolicy is what becomes of the command when the lock is lost: "" and "term",
// "kill", "keep".
type lossPolicy string

func (p *lossPolicy) String() string { return string(*p) }

func (p *lossPolicy) Set(s string) error {
	if s != "term" && s != "kill" && s != "keep" {
		return errors.New("write term, kill or keep")
	}
	*p = lossPolicy(s)
	return nil
}

// signal returns what the command is sent, 0 for nothing.
func (p lossPolicy) signal() syscall.Signal {
	switch p {
	case "keep":
		return 0
	case "kill":
		return syscall.SIGKILL
	}
	return syscall.SIGTERM
}

func (p lossPolicy) says() string {
	switch p {
	case "keep":
		return "the command runs on without it (--on-loss keep)"
	case "kill":
		return "killing the command (--on-loss kill)"
	}
	return "sending TERM to the command"
}

// lockedProcess is the command while it runs.
type lockedProcess struct {
	cmd      *exec.Cmd
	ownGroup bool          // it leads a process group; else it is in ours
	ended    chan struct{} // closed when it has ended
}

// start runs the command with this process's own files.
func (l *lockRun) start(path string, g grant) (*lockedProcess, error) {
	cmd := exec.Command(path)
	cmd.Args = l.commandLine
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "KS_LOCK_NAME="+l.name, "KS_LOCK_TOKEN="+g.token, "KS_LOCK_FENCE="+g.fence)
	p := &lockedProcess{cmd: cmd, ownGroup: !inForeground(), ended: make(chan struct{})}
	cmd.SysProcAttr = boundTo(l.onLoss.signal())
	cmd.SysProcAttr.Setpgid = p.ownGroup
	started := make(chan error)
	go p.live(started)
	return p, <-started
}

// live starts the command and waits for its end, on one thread: Linux sends the
// signal for the death of a parent when the thread that started the child ends.
func (p *lockedProcess) live(started chan<- error) {
	runtime.LockOSThread()
	err := p.cmd.Start()
	started <- err
	if err == nil {
		_ = p.cmd.Wait() // what it tells is in ProcessState
		close(p.ended)
	}
}

// inForeground reports whether a terminal has this process in its foreground. The
// command then stays in our process group, to be able to read from the terminal;
// otherwise it leads its own, so that a signal reaches all of a script or pipeline.
func inForeground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == syscall.Getpgrp()
}

// pass passes on a signal that this process has got. In the foreground the terminal
// has sent INT and QUIT (Ctrl-C, Ctrl-\) to the command as well, and many programs
// take a second one for an order to stop at once.
func (p *lockedProcess) pass(s syscall.Signal) {
	if !p.ownGroup && (s == syscall.SIGINT || s == syscall.SIGQUIT) && inForeground() {
		return
	}
	p.signal(s)
}

// signal sends s to the command. That it has ended is no error.
func (p *lockedProcess) signal(s syscall.Signal) {
	if p.ownGroup {
		_ = syscall.Kill(-p.cmd.Process.Pid, s)
		return
	}
	p.cmd.Process.Signal(s)
}

// status returns the exit status as a shell would have it; valid once it has ended.
func (p *lockedProcess) status() int {
	w := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if w.Signaled() {
		return exitSignalOffset + int(w.Signal())
	}
	return w.ExitStatus()
}
