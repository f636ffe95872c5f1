package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// upstreamURL says where Redis is.
type upstreamURL struct {
	scheme         string // embedded, redis, rediss, unix
	host, port     string // of redis and rediss
	path           string // of unix
	user, password string // as in the URL, unescaped
}

// String names the upstream without its credentials.
func (u upstreamURL) String() string {
	switch u.scheme {
	case "unix":
		return "unix://" + u.path
	case "redis", "rediss":
		return u.scheme + "://" + net.JoinHostPort(u.host, u.port)
	}
	return u.scheme
}

// errUpstreamForm ends every complaint about the form of an upstream.
var errUpstreamForm = errors.New("write embedded, redis://[user:password@]host:port, rediss://... or unix:///path")

// parseUpstream takes the value of the upstream directive apart. Its errors repeat
// nothing of the value: where it is malformed, any part may be (part of) the
// password. That is also why net/url, whose errors quote the URL, isn't used.
func parseUpstream(s string) (upstreamURL, error) {
	if strings.EqualFold(s, "embedded") {
		return upstreamURL{scheme: "embedded"}, nil
	}
	scheme, rest, ok := strings.Cut(s, "://")
	u := upstreamURL{scheme: strings.ToLower(scheme)}
	if !ok || u.scheme != "redis" && u.scheme != "rediss" && u.scheme != "unix" {
		return upstreamURL{}, fmt.Errorf("is no upstream; %w", errUpstreamForm)
	}
	// The last @ ends the credentials, so that a password may contain others.
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		var err error
		if u.user, u.password, err = parseUserinfo(rest[:at]); err != nil {
			return upstreamURL{}, err
		}
		rest = rest[at+1:]
	}
	if strings.ContainsAny(rest, "?#") {
		return upstreamURL{}, fmt.Errorf("options behind ? or # don't exist here; %w", errUpstreamForm)
	}
	if u.scheme == "unix" {
		return u.withPath(rest)
	}
	return u.withAddress(rest)
}

func parseUserinfo(s string) (user, password string, err error) {
	user, password, ok := strings.Cut(s, ":")
	if !ok {
		return "", "", errors.New("a user or a password alone is ambiguous before the @; write user:password@ or :password@")
	}
	user, userErr := url.PathUnescape(user)
	password, passErr := url.PathUnescape(password)
	if userErr != nil || passErr != nil {
		return "", "", errors.New("the user or the password contains a % that begins no escape; write it as %25, or use upstream-user and upstream-password")
	}
	return user, password, nil
}

func (u upstreamURL) withPath(path string) (upstreamURL, error) {
	if !strings.HasPrefix(path, "/") {
		return upstreamURL{}, errors.New("the socket's path must be absolute; write unix:///path")
	}
	path, err := url.PathUnescape(path)
	if err != nil {
		return upstreamURL{}, errors.New("the path contains a % that begins no escape; write it as %25")
	}
	u.path = path
	return u, nil
}

func (u upstreamURL) withAddress(address string) (upstreamURL, error) {
	address, path, _ := strings.Cut(address, "/")
	if path != "" {
		return upstreamURL{}, fmt.Errorf("a database can't be chosen here, clients do with SELECT; %w", errUpstreamForm)
	}
	u.host, u.port = address, "6379"
	if i := strings.LastIndexByte(address, ':'); i >= 0 && !strings.HasSuffix(address, "]") {
		var err error
		if u.host, u.port, err = net.SplitHostPort(address); err != nil {
			return upstreamURL{}, fmt.Errorf("host and port can't be told apart, an IPv6 address needs brackets; %w", errUpstreamForm)
		}
	}
	u.host = strings.TrimSuffix(strings.TrimPrefix(u.host, "["), "]")
	if n, err := strconv.ParseUint(u.port, 10, 16); err != nil || n == 0 {
		return upstreamURL{}, fmt.Errorf("the port is not a number from 1 to 65535; %w", errUpstreamForm)
	}
	if u.host == "" || strings.ContainsAny(u.host, " []\x00") {
		return upstreamURL{}, fmt.Errorf("the host is missing or malformed; %w", errUpstreamForm)
	}
	return u, nil
}

// local reports whether Redis is reached over loopback or a Unix socket, where it
// takes every client of the proxy for a local one. A name is local if one of its
// addresses is; one that can't be resolved is not.
func (u upstreamURL) local(ctx context.Context) bool {
	if u.scheme == "embedded" || u.scheme == "unix" {
		return true
	}
	addrs, err := net.DefaultResolver.LookupIPAddr(ctx, u.host)
	if err != nil {
		return strings.EqualFold(u.host, "localhost")
	}
	for _, a := range addrs {
		if a.IP.IsLoopback() || a.IP.IsUnspecified() {
			return true
		}
	}
	return false
}

const (
	// ownDialTimeout bounds a dial, handshake included, of the proxy's own connections.
	ownDialTimeout = 5 * time.Second
	// ownIdleConns is how many connections a client of our own keeps beyond a moment of need.
	ownIdleConns = 2
	// tlsTimeout bounds a TLS handshake within a dial.
	tlsTimeout = 10 * time.Second
)

// upstream opens connections to Redis. It is safe for concurrent use.
type upstream struct {
	url       upstreamURL
	tls       *tls.Config // nil: plain
	keepAlive time.Duration
	embedded  *embedded // nil: elsewhere
}

// dial opens a connection to Redis; names are resolved anew each time. TCP
// connections have no delay and the keep-alive asked for; with TLS, the handshake
// is done. The caller owns the connection.
func (u *upstream) dial(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{KeepAliveConfig: keepAlive(u.keepAlive)}
	if u.keepAlive == 0 {
		dialer.KeepAlive = -1
	}
	switch u.url.scheme {
	case "embedded":
		return u.embedded.dial()
	case "unix":
		return dialer.DialContext(ctx, "unix", u.url.path)
	}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(u.url.host, u.url.port))
	if err != nil || u.tls == nil {
		return conn, err
	}
	ctx, cancel := context.WithTimeout(ctx, tlsTimeout)
	defer cancel()
	secured := tls.Client(conn, u.tls)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS handshake with %s: %w", u.url, err)
	}
	return secured, nil
}

// keepAlive is anetKeepAlive of Redis's anet.c: probes begin after idle, come
// every third of it, and the third unanswered one ends the connection.
func keepAlive(idle time.Duration) net.KeepAliveConfig {
	return net.KeepAliveConfig{
		Enable:   idle > 0,
		Idle:     idle,
		Interval: max(idle/3, time.Second),
		Count:    3,
	}
}

// newClient returns a go-redis client for what the proxy does on its own behalf,
// with credentials of its own. It connects when it is first used; the caller
// closes it.
//
// RESP2, because nothing here needs more and pushes would only have to be ignored.
// No retries: who asks knows what may be asked again, and when.
func (u *upstream) newClient(user, password string) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr:                     u.url.String(),
		Dialer:                   func(ctx context.Context, _, _ string) (net.Conn, error) { return u.dial(ctx) },
		Username:                 user,
		Password:                 password,
		OnConnect:                introduce,
		Protocol:                 2,
		MaxIdleConns:             ownIdleConns,
		DialTimeout:              ownDialTimeout,
		DialerRetries:            1,
		MaxRetries:               -1,
		ContextTimeoutEnabled:    true,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// introduce makes a connection of our own recognisable in CLIENT LIST, and exempt
// from maxmemory-clients. Where Redis doesn't know or allow that, it works without.
func introduce(ctx context.Context, conn *redis.Conn) error {
	_, err := conn.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.ClientSetName(ctx, "keysmith-proxy")
		p.Do(ctx, "CLIENT", "NO-EVICT", "ON")
		return nil
	})
	if isReply(err) {
		return nil
	}
	return err
}
