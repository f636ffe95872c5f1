package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tidwall/redcon"
)

const (
	// lockPatience bounds what the proxy answers at once: connecting, HELLO,
	// KS.LOCK NOWAIT. The proxy itself gives Redis 2 s, a TLS handshake 10 s.
	lockPatience = 10 * time.Second
	// unlockPatience bounds the last word. Closing the connection releases the
	// lock, too.
	unlockPatience = 2 * time.Second
)

// errNotGranted: the time to wait has passed.
var errNotGranted = errors.New("not granted")

// lockConn is a connection to the proxy that speaks RESP3. A client library would
// not do: the end of the connection and ks.lost must be noticed while nothing is
// being asked.
type lockConn struct {
	net.Conn
	r *bufio.Reader
}

// grant is what KS.LOCK replied.
type grant struct{ token, fence string }

// dialLock connects and introduces itself; the caller closes the connection.
func dialLock(ctx context.Context, o *lockOptions) (*lockConn, error) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	network, addr := o.address()
	// A proxy whose host has vanished is noticed within 20 s, before the lock of
	// a default ks-lock-ttl (30 s) runs out.
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}
	conn, err := dialer.DialContext(ctx, network, addr)
	switch {
	case isBrokenOff(err): // accepted and reset, before we knew
		return nil, explain(err)
	case err != nil:
		return nil, fmt.Errorf("can't reach keysmith-proxy: %w (-h, -p and -s say where it is)", err)
	}
	if o.tls.on {
		if conn, err = o.tls.handshake(ctx, conn, o.host); err != nil {
			return nil, err
		}
	}
	return &lockConn{Conn: conn, r: bufio.NewReader(conn)}, nil
}

// handshake takes conn over: it is closed if that fails.
func (t lockTLS) handshake(ctx context.Context, conn net.Conn, host string) (net.Conn, error) {
	config, err := t.config(host)
	if err != nil {
		conn.Close()
		return nil, err
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS with %s: %w", conn.RemoteAddr(), err)
	}
	return secured, nil
}

func (t lockTLS) config(host string) (*tls.Config, error) {
	c := &tls.Config{ServerName: host, InsecureSkipVerify: t.insecure, MinVersion: tls.VersionTLS12}
	if t.sniName != "" {
		c.ServerName = t.sniName
	}
	if t.caCert != "" {
		pem, err := os.ReadFile(t.caCert)
		if err != nil {
			return nil, fmt.Errorf("--cacert: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--cacert: no certificate in %s", t.caCert)
		}
	}
	if t.cert != "" {
		pair, err := tls.LoadX509KeyPair(t.cert, t.key)
		if err != nil {
			return nil, fmt.Errorf("--cert and --key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// lock introduces the client and waits in line. It returns errNotGranted when the
// time for that is up.
func (c *lockConn) lock(o *lockOptions) (grant, error) {
	c.SetDeadline(time.Now().Add(lockPatience))
	hello := []string{"HELLO", "3"}
	if o.pass != "" {
		user := o.user
		if user == "" {
			user = "default"
		}
		hello = append(hello, "AUTH", user, o.pass)
	}
	if _, err := c.do(append(hello, "SETNAME", clientName())...); err != nil {
		return grant{}, explain(err)
	}
	if o.db != 0 {
		if _, err := c.do("SELECT", strconv.Itoa(o.db)); err != nil {
			return grant{}, explain(err)
		}
	}
	reply, err := c.do(c.request(o)...)
	switch {
	case err != nil:
		return grant{}, explain(err)
	case reply.null:
		return grant{}, errNotGranted
	case len(reply.elems) != 2:
		return grant{}, errors.New("KS.LOCK was not answered as keysmith-proxy does")
	}
	c.SetDeadline(time.Time{})
	return grant{reply.elems[0].text, reply.elems[1].text}, nil
}

// request returns the KS.LOCK call, and sets how long its answer may take. It may
// take for ever if the caller has named no time; TCP then tells if the proxy's host
// has vanished.
func (c *lockConn) request(o *lockOptions) []string {
	args := []string{"KS.LOCK", o.name, "SESSION"}
	switch {
	case o.noWait:
		return append(args, "NOWAIT")
	case o.wait != 0:
		c.SetDeadline(time.Now().Add(time.Duration(o.wait) + lockPatience))
		return append(args, "WAIT", o.wait.milliseconds())
	}
	c.SetDeadline(time.Time{})
	return args
}

// holder tells who has the lock, in words, as far as KS.STATUS knows.
func (c *lockConn) holder(name string) string {
	c.SetDeadline(time.Now().Add(unlockPatience))
	status, err := c.do("KS.STATUS", name)
	if err != nil {
		return ""
	}
	for i := 0; i+1 < len(status.elems); i += 2 {
		if owner := status.elems[i+1].text; status.elems[i].text == "owner" && owner != "" {
			return ": held by " + owner
		}
	}
	return ""
}

// do sends a command and returns its reply; an error reply becomes a replyError.
func (c *lockConn) do(args ...string) (reply, error) {
	if err := c.send(args...); err != nil {
		return reply{}, err
	}
	for {
		r, err := readReply(c.r)
		switch {
		case err != nil:
			return reply{}, err
		case r.kind == '-':
			return reply{}, replyError(r.text)
		case r.kind != '>':
			return r, nil
		}
	}
}

func (c *lockConn) send(args ...string) error {
	b := redcon.AppendArray(nil, len(args))
	for _, arg := range args {
		b = redcon.AppendBulkString(b, arg)
	}
	_, err := c.Write(b)
	return err
}

// replyError is an error that the proxy or Redis replied.
type replyError string

func (e replyError) Error() string { return string(e) }

// isBrokenOff tells the errors of a connection that the other side has ended.
func isBrokenOff(err error) bool {
	ends := []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE}
	return slices.ContainsFunc(ends, func(end error) bool { return errors.Is(err, end) })
}

// explain adds what a user can do about err.
func explain(err error) error {
	var replied replyError
	var timeout net.Error
	switch {
	case isBrokenOff(err):
		return errors.New("the proxy has closed the connection; can it reach its Redis?")
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("the proxy does not answer")
	case !errors.As(err, &replied):
		return err
	case strings.HasPrefix(string(replied), "ERR unknown command"):
		return fmt.Errorf("%w (is this Redis itself, not keysmith-proxy?)", err)
	case strings.HasPrefix(string(replied), "NOAUTH"):
		return fmt.Errorf("%w (REDISCLI_AUTH in the environment, or --pass)", err)
	}
	return err
}

// reply is one RESP3 value.
type reply struct {
	kind  byte    // its first byte
	text  string  // of strings, errors and numbers
	elems []reply // of arrays, pushes and maps: keys and values in turn
	null  bool
}

// errNoReply: whoever is at the other end does not speak RESP3.
var errNoReply = errors.New("what has been answered is not the Redis protocol")

// Bounds of what is read: far more than what is asked for is ever long.
const (
	maxReplyText  = 1 << 20
	maxReplyElems = 1 << 10
	maxReplyDepth = 8
)

func readReply(r *bufio.Reader) (reply, error) { return readReplyAt(r, 0) }

func readReplyAt(r *bufio.Reader, depth int) (reply, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return reply{}, errNoReply
	}
	if err != nil {
		return reply{}, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' || depth > maxReplyDepth {
		return reply{}, errNoReply
	}
	v := reply{kind: line[0], text: string(line[1 : len(line)-2])}
	switch v.kind {
	case '+', '-', ':', ',', '#', '(':
		return v, nil
	case '_':
		v.null = true
		return v, nil
	}
	n, err := strconv.Atoi(v.text)
	if err != nil || n < -1 || n > maxReplyText {
		return reply{}, errNoReply
	}
	v.text, v.null = "", n < 0
	switch v.kind {
	case '$', '=', '!':
		return v.withText(r, n)
	case '%':
		n *= 2
	case '*', '~', '>':
	default:
		return reply{}, errNoReply
	}
	return v.withElems(r, n, depth)
}

func (v reply) withText(r io.Reader, n int) (reply, error) {
	if v.null {
		return v, nil
	}
	b := make([]byte, n+len("\r\n"))
	if _, err := io.ReadFull(r, b); err != nil {
		return reply{}, err
	}
	v.text = string(b[:n])
	return v, nil
}

func (v reply) withElems(r *bufio.Reader, n, depth int) (reply, error) {
	if n > maxReplyElems {
		return reply{}, errNoReply
	}
	for range n {
		e, err := readReplyAt(r, depth+1)
		if err != nil {
			return reply{}, err
		}
		v.elems = append(v.elems, e)
	}
	return v, nil
}
