package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// Exit statuses that are not the command's.
const (
	exitUsage        = 64  // as flock(1), EX_USAGE of sysexits.h
	exitNoLock       = 1   // the lock was not granted; -E changes it for "not in time"
	exitCannotRun    = 126 // as a shell's
	exitNotFound     = 127 // as a shell's
	exitSignalOffset = 128 // plus the signal's number, as a shell's
)

// lockRun is one run of keysmith-proxy lock.
type lockRun struct {
	*lockOptions
	stderr  io.Writer
	signals <-chan os.Signal // what is passed on to the command
	pulse   time.Duration    // between two signs of life
}

// lockCommand is keysmith-proxy lock: flock(1) over KS.LOCK ... SESSION. It runs a
// command while it holds a lock, and returns the exit status.
func lockCommand(args []string, stdout, stderr io.Writer) int {
	o, err := parseLockArgs(args, os.Getenv)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, lockUsage)
		return 0
	}
	l := &lockRun{lockOptions: o, stderr: stderr, signals: passedSignals(), pulse: 5 * time.Second}
	if err != nil {
		l.say("%v; see keysmith-proxy lock --help", err)
		return exitUsage
	}
	return l.run()
}

// passedSignals returns what arrives of the signals that are passed on. Those that
// are ignored already (by nohup, say) stay so, here and in the command.
func passedSignals() <-chan os.Signal {
	signals := make(chan os.Signal, 16)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	return signals
}

func (l *lockRun) run() int {
	path, err := exec.LookPath(l.commandLine[0])
	if err != nil { // nobody should wait for a lock to be told that
		return l.cannotRun(err)
	}
	h, err := l.acquire()
	if err != nil {
		return l.refused(err)
	}
	defer h.close()
	select {
	case s := <-l.signals: // it came with the grant
		return l.refused(signalled{s})
	default:
	}
	p, err := l.start(path, h.grant)
	if err != nil {
		_ = h.release() // the command has not run, so its loss matters to nobody
		return l.cannotRun(err)
	}
	return l.attend(h, p)
}

// signalled is the error that a signal has ended the wait.
type signalled struct{ os.Signal }

func (s signalled) Error() string { return "signal: " + s.String() }

// acquire waits for the lock until it is granted, refused, or a signal arrives.
func (l *lockRun) acquire() (*hold, error) {
	type outcome struct {
		h   *hold
		err error
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	asked := make(chan outcome, 1)
	go func() {
		h, err := l.ask(ctx)
		asked <- outcome{h, err}
	}()
	select {
	case o := <-asked:
		return o.h, o.err
	case s := <-l.signals:
		cancel()
		if o := <-asked; o.err == nil {
			o.h.close()
		}
		return nil, signalled{s}
	}
}

// ask connects and asks for the lock. When ctx ends, so does the connection, and
// with it the place in line.
func (l *lockRun) ask(ctx context.Context) (*hold, error) {
	c, err := dialLock(ctx, l.lockOptions)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	g, err := c.lock(l.lockOptions)
	if errors.Is(err, errNotGranted) && !l.quiet {
		err = l.notGranted(c.holder(l.name))
	}
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return newHold(c, l.name, g), nil
}

// notGranted words errNotGranted.
func (l *lockRun) notGranted(holder string) error {
	within := ""
	if l.wait != 0 {
		within = fmt.Sprintf(" within %v", time.Duration(l.wait))
	}
	return fmt.Errorf("%w%s%s", errNotGranted, within, holder)
}

// refused tells why the command was not run and returns the exit status.
func (l *lockRun) refused(err error) int {
	var s signalled
	switch {
	case errors.As(err, &s):
		return exitSignalOffset + int(s.Signal.(syscall.Signal))
	case !errors.Is(err, errNotGranted):
		l.say("%s: %v", l.name, err)
		return exitNoLock
	case !l.quiet:
		l.say("%s: %v", l.name, err)
	}
	return l.conflict
}

// cannotRun tells why the command can't be run and returns the exit status.
func (l *lockRun) cannotRun(err error) int {
	l.say("%v", err)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return exitNotFound
	}
	return exitCannotRun
}

// attend passes signals on to the command, watches the lock, and returns the
// command's exit status when it has ended and the lock is released.
func (l *lockRun) attend(h *hold, p *lockedProcess) int {
	pulse := time.NewTicker(l.pulse)
	defer pulse.Stop()
	for {
		select {
		case <-p.ended:
			if err := h.release(); err != nil {
				l.say("%s: %v", l.name, err)
			}
			return p.status()
		case s := <-l.signals:
			p.pass(s.(syscall.Signal))
		case m := <-h.messages:
			l.heed(h, p, h.receive(m))
		case <-pulse.C:
			l.heed(h, p, h.ping())
		}
	}
}

// heed acts if lost is not nil: the lock is lost while the command runs. What may
// be left of it (after silence nobody knows) is kept until the command has ended.
func (l *lockRun) heed(h *hold, p *lockedProcess, lost error) {
	if lost == nil {
		return
	}
	h.lost = true
	l.say("%s: %v; %s", l.name, lost, l.onLoss.says())
	if s := l.onLoss.signal(); s != 0 {
		p.signal(s)
	}
}

func (l *lockRun) say(format string, args ...any) {
	fmt.Fprintf(l.stderr, "keysmith-proxy lock: "+format+"\n", args...)
}
