package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/keysmith-proxy/keysmith-proxy/proxy"
)

// openListeners opens every place where clients connect. On an error none stays
// open. Closing the listener of a Unix socket removes the socket.
func openListeners(ctx context.Context, c *config, log *slog.Logger) ([]proxy.Listener, error) {
	open, err := listenEverywhere(ctx, c, log)
	if err == nil && len(open) == 0 {
		err = c.wrong("bind", "this machine has none of the addresses")
	}
	if err != nil {
		for _, l := range open {
			l.Close()
		}
		return nil, err
	}
	return open, nil
}

// listenEverywhere returns what is open even if it ends with an error.
func listenEverywhere(ctx context.Context, c *config, log *slog.Logger) (open []proxy.Listener, err error) {
	for _, p := range []struct {
		directive string
		port      int
		tls       *tls.Config
	}{
		{"port", c.port, nil},
		{"tls-port", c.tlsPort, c.serverTLS},
	} {
		for _, addr := range c.bind {
			if p.port == 0 {
				continue
			}
			l, err := listenTCP(ctx, addr, p.port, log)
			if err != nil {
				return open, c.wrong(p.directive, "%w", err)
			}
			if l != nil {
				open = append(open, proxy.Listener{Listener: l, TLS: p.tls})
			}
		}
	}
	if c.unixSocket == "" {
		return open, nil
	}
	l, err := listenUnix(c.unixSocket, c.unixSocketPerm)
	if err != nil {
		return open, c.wrong("unixsocket", "%w", err)
	}
	return append(open, proxy.Listener{Listener: l}), nil
}

// listenTCP listens on an address as bind names it. As in Redis, it returns
// neither listener nor error where this machine doesn't know the protocol, and
// where it doesn't have the address and that is said not to matter.
//
// Plain TCP, not Go's default of MPTCP: sockets shall be those that Redis has.
// Keep-alive is the server's to set, connection by connection.
func listenTCP(ctx context.Context, bind string, port int, log *slog.Logger) (net.Listener, error) {
	host, optional := strings.CutPrefix(bind, "-")
	network := "tcp4"
	if strings.Contains(host, ":") {
		network = "tcp6"
	}
	switch host {
	case "*":
		host = "0.0.0.0"
	case "::*":
		host = "::"
	}
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, network, net.JoinHostPort(host, strconv.Itoa(port)))
	if err == nil {
		return l, nil
	}
	unavailable := errors.Is(err, syscall.EADDRNOTAVAIL)
	if unsupported(err) || unavailable && optional {
		log.Log(ctx, levelVerbose, "an address to listen on is not available", "bind", bind, "err", err)
		return nil, nil
	}
	return nil, listenError(err, host, port)
}

// unsupported reports whether this machine doesn't speak the protocol, by the
// errors that listenToPort of Redis's server.c passes over.
func unsupported(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.ENOPROTOOPT, syscall.EPROTONOSUPPORT, syscall.ESOCKTNOSUPPORT,
		syscall.EPFNOSUPPORT, syscall.EAFNOSUPPORT,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// listenError adds what to do about it.
func listenError(err error, host string, port int) error {
	where := net.JoinHostPort(host, strconv.Itoa(port))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("another process listens on %s already; choose another port", where)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("this machine doesn't have the address of %s; correct bind, or write -%s if that is all right", where, host)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("no permission to listen on %s; choose a port above 1023", where)
	}
	return fmt.Errorf("can't listen on %s: %w", where, err)
}

// listenUnix listens on a Unix socket. Like Redis it takes the place of a socket
// that is there already, left behind by an earlier process; unlike Redis it
// touches nothing else.
func listenUnix(path string, perm fs.FileMode) (net.Listener, error) {
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s exists and is not a socket; remove it or choose another path", path)
	case err == nil:
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("can't remove the old socket: %w", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("can't listen: %w", err)
	}
	if perm != 0 {
		if err := os.Chmod(path, perm); err != nil {
			l.Close()
			return nil, fmt.Errorf("can't set the permissions of unixsocketperm: %w", err)
		}
	}
	return l, nil
}

// tryIt is a command that a user can type to see the proxy work, for the place
// that is easiest to reach.
func tryIt(c *config, listeners []proxy.Listener) string {
	at := ""
	for _, l := range listeners {
		addr, ok := l.Addr().(*net.TCPAddr)
		switch {
		case !ok && at == "":
			at = " -s " + l.Addr().String()
		case ok && l.TLS == nil:
			return "redis-cli" + hostPort(addr) + " KS.LOCK hello"
		case ok && at == "":
			at = hostPort(addr) + tlsArguments(c)
		}
	}
	return "redis-cli" + at + " KS.LOCK hello"
}

// hostPort is how redis-cli is told where to connect; its default is 127.0.0.1.
func hostPort(addr *net.TCPAddr) string {
	port := " -p " + strconv.Itoa(addr.Port)
	if ip := addr.IP.To4(); ip != nil && ip.IsLoopback() || addr.IP.IsUnspecified() {
		return port
	}
	return " -h " + addr.IP.String() + port
}

func tlsArguments(c *config) string {
	if c.tlsAuthClients == "yes" {
		return " --tls --cacert CA --cert CERT --key KEY"
	}
	return " --tls --cacert CA"
}
