package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// lockOptions is a command line of keysmith-proxy lock taken apart.
type lockOptions struct {
	host, port, socket string
	user, pass         string
	db                 int
	tls                lockTLS

	wait        lockWait
	noWait      bool
	conflict    int  // exit status if the lock was not granted in time
	quiet       bool // nothing is said then
	onLoss      lossPolicy
	name        string
	commandLine []string // at least the program
}

type lockTLS struct {
	on, insecure               bool
	caCert, cert, key, sniName string
}

// parseLockArgs takes apart what follows "keysmith-proxy lock"; getenv is
// os.Getenv. It returns flag.ErrHelp if help is asked for. Its errors repeat no
// password.
func parseLockArgs(args []string, getenv func(string) string) (*lockOptions, error) {
	if len(args) == 0 || len(args) == 1 && args[0] == "-h" { // as redis-cli, where -h is the host, too
		return nil, flag.ErrHelp
	}
	o := &lockOptions{}
	f := o.flags(getenv)
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if err := o.takeCommand(f.Args(), getenv); err != nil {
		return nil, err
	}
	return o, o.check()
}

// flags are named as in redis-cli where they say how to connect, and as in
// flock(1) where they say how to wait; the unit of -w is ours.
func (o *lockOptions) flags(getenv func(string) string) *flag.FlagSet {
	f := flag.NewFlagSet("keysmith-proxy lock", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	f.StringVar(&o.host, "h", "127.0.0.1", "")
	f.StringVar(&o.port, "p", "6380", "")
	f.StringVar(&o.socket, "s", "", "")
	f.StringVar(&o.user, "user", "", "")
	f.StringVar(&o.pass, "pass", getenv("REDISCLI_AUTH"), "")
	f.StringVar(&o.pass, "a", o.pass, "")
	f.IntVar(&o.db, "db", 0, "")
	f.BoolVar(&o.tls.on, "tls", false, "")
	f.BoolVar(&o.tls.insecure, "insecure", false, "")
	f.StringVar(&o.tls.caCert, "cacert", "", "")
	f.StringVar(&o.tls.cert, "cert", "", "")
	f.StringVar(&o.tls.key, "key", "", "")
	f.StringVar(&o.tls.sniName, "sni", "", "")
	f.Var(&o.wait, "w", "")
	f.BoolVar(&o.noWait, "n", false, "")
	f.IntVar(&o.conflict, "E", 1, "")
	f.BoolVar(&o.quiet, "q", false, "")
	f.Var(&o.onLoss, "on-loss", "")
	return f
}

// takeCommand reads: name [--] command [argument ...], or: name -c string.
func (o *lockOptions) takeCommand(words []string, getenv func(string) string) error {
	if len(words) == 0 || words[0] == "" {
		return errors.New("the name of the lock is missing")
	}
	o.name, words = words[0], words[1:]
	switch {
	case len(words) > 0 && words[0] == "-c":
		if len(words) != 2 {
			return errors.New("-c takes one argument, which a shell runs")
		}
		shell := getenv("SHELL")
		if shell == "" {
			shell = "/bin/sh"
		}
		words = append([]string{shell}, words...)
	case len(words) > 0 && words[0] == "--":
		words = words[1:]
	case len(words) > 0 && strings.HasPrefix(words[0], "-"):
		return fmt.Errorf("options such as %s go before the name; a command that begins so goes behind --", words[0])
	}
	if len(words) == 0 || words[0] == "" {
		return errors.New("the command to run is missing")
	}
	o.commandLine = words
	return nil
}

func (o *lockOptions) check() error {
	port, err := strconv.ParseUint(o.port, 10, 16)
	switch {
	case o.socket == "" && (err != nil || port == 0):
		return errors.New("-p: a port is a number from 1 to 65535")
	case o.noWait && o.wait != 0:
		return errors.New("-n waits for nothing, so -w can't go with it")
	case o.conflict < 0 || o.conflict > 255:
		return errors.New("-E: an exit status is a number from 0 to 255")
	case o.db < 0:
		return errors.New("--db: databases are counted from 0")
	case o.user != "" && o.pass == "":
		return errors.New("--user needs a password: REDISCLI_AUTH in the environment, or --pass")
	case !o.tls.on && o.tls != lockTLS{}:
		return errors.New("--insecure, --cacert, --cert, --key and --sni need --tls")
	case (o.tls.cert == "") != (o.tls.key == ""):
		return errors.New("--cert and --key go together")
	}
	return nil
}

// address returns where the proxy is, as net.Dial takes it.
func (o *lockOptions) address() (network, addr string) {
	if o.socket != "" {
		return "unix", o.socket
	}
	return "tcp", net.JoinHostPort(o.host, o.port)
}

// clientName shows in KS.STATUS of who has to wait.
func clientName() string {
	host, err := os.Hostname()
	if err != nil || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r > '~' }) {
		host = "unknown"
	}
	return fmt.Sprintf("lock@%s:%d", host, os.Getpid())
}

// lockWait is how long to stand in line, at least a millisecond; 0: as long as the
// proxy lets it.
type lockWait time.Duration

func (w *lockWait) String() string { return time.Duration(*w).String() }

// Set takes milliseconds, as KS.LOCK does, or a number with its unit. Zero is
// refused: it would mean for ever to Redis, and not at all to flock(1).
func (w *lockWait) Set(s string) error {
	d, err := time.ParseDuration(s)
	if ms, notPlain := strconv.ParseUint(s, 10, 32); notPlain == nil {
		d, err = time.Duration(ms)*time.Millisecond, nil
	}
	if err != nil || d < 0 || d > 0 && d < time.Millisecond {
		return errors.New("write milliseconds, or a number with its unit, such as 10s or 5m")
	}
	if d == 0 {
		return errors.New("write -n to not wait, or leave -w out to wait as long as it takes")
	}
	*w = lockWait(d)
	return nil
}

func (w lockWait) milliseconds() string {
	return strconv.FormatInt(time.Duration(w).Milliseconds(), 10)
}
