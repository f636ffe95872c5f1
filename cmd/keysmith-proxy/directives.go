package main

import (
	"math"
	"strings"
	"time"
)

// directive is one row of the configuration language.
type directive struct {
	name  string
	usage string // what may follow the name, for --help
	deflt string // the default, as one would write it
	doc   string // one line for --help
	set   func(c *config, words []string) error
}

// maxMillis is 2^53 ms: up to there a Lua number, which is what Redis's scripts
// calculate with, is exact.
const maxMillis = 1 << 53

// directives is every directive there is. Names, defaults and syntax are Redis's
// wherever Redis has the concept.
var directives = []directive{
	{"bind", "address ...", "127.0.0.1 -::1", `addresses to listen on; "-" before one: no matter if this machine doesn't have it, "*": every IPv4 address, "::*": every IPv6 address, "": none`, setBind},
	{"port", "0-65535", "6380", "TCP port for clients; 0: none", number(func(c *config) *int { return &c.port }, 0, math.MaxUint16)},
	{"unixsocket", "path", `""`, "Unix socket for clients", text(func(c *config) *string { return &c.unixSocket })},
	{"unixsocketperm", "0-777", "0", "permissions of the Unix socket, octal; 0: what the umask leaves", setUnixSocketPerm},
	{"tls-port", "0-65535", "0", "TCP port for clients that speak TLS; 0: none", number(func(c *config) *int { return &c.tlsPort }, 0, math.MaxUint16)},
	{"tls-cert-file", "path", `""`, "certificate shown to clients (PEM)", text(func(c *config) *string { return &c.tlsCertFile })},
	{"tls-key-file", "path", `""`, "its private key (PEM)", text(func(c *config) *string { return &c.tlsKeyFile })},
	{"tls-ca-cert-file", "path", `""`, "authorities that sign the certificates of clients (PEM)", text(func(c *config) *string { return &c.tlsCACertFile })},
	{"tls-auth-clients", "yes|no|optional", "yes", "whether clients must show a certificate", choice(func(c *config) *string { return &c.tlsAuthClients }, "yes", "no", "optional")},
	{"protected-mode", "yes|no", "yes", "refuse remote clients while Redis is local and accepts commands without a password", yesNo(func(c *config) *bool { return &c.protectedMode })},
	{"upstream", "embedded|URL", "embedded", "the Redis behind: redis://[user:password@]host:port, rediss:// for TLS, unix:///path", setUpstream},
	{"upstream-user", "user", `""`, "user of the proxy's own connections; default: the URL's", text(func(c *config) *string { return &c.upstreamUser })},
	{"upstream-password", "password", `""`, "password of the proxy's own connections; default: the URL's", text(func(c *config) *string { return &c.upstreamPassword })},
	{"upstream-tls-ca-cert-file", "path", `""`, "authorities that sign Redis's certificate (PEM); default: the system's", text(func(c *config) *string { return &c.upstreamTLSCACertFile })},
	{"upstream-tls-cert-file", "path", `""`, "certificate shown to Redis (PEM)", text(func(c *config) *string { return &c.upstreamTLSCertFile })},
	{"upstream-tls-key-file", "path", `""`, "its private key (PEM)", text(func(c *config) *string { return &c.upstreamTLSKeyFile })},
	{"upstream-tls-server-name", "name", `""`, "name in Redis's certificate; default: the URL's host", text(func(c *config) *string { return &c.upstreamTLSServerName })},
	{"upstream-tls-insecure", "yes|no", "no", "accept any certificate from Redis", yesNo(func(c *config) *bool { return &c.upstreamTLSInsecure })},
	{"maxclients", "number", "10000", "clients at the same time", number(func(c *config) *int { return &c.maxClients }, 1, math.MaxUint32)},
	{"timeout", "seconds", "0", "close clients that are idle for so long; 0: never", duration(func(c *config) *time.Duration { return &c.timeout }, time.Second, 0, math.MaxInt32)},
	{"tcp-keepalive", "seconds", "300", "TCP keep-alive of clients and of Redis; 0: off", duration(func(c *config) *time.Duration { return &c.tcpKeepAlive }, time.Second, 0, math.MaxInt32)},
	{"threads", "auto|1-1024", "auto", "threads that run the proxy; auto: half the cores", setThreads},
	{"loglevel", strings.Join(levelNames, "|"), "notice", "what is worth a log line", setLogLevel},
	{"logfile", "path", `""`, `where log lines go; "": standard error`, text(func(c *config) *string { return &c.logFile })},
	{"ks-lock-ttl", "ms", "30000", "life of a lock whose caller names no TTL", duration(func(c *config) *time.Duration { return &c.lockTTL }, time.Millisecond, 1000, maxMillis)},
	{"ks-lock-wait", "ms", "0", "how long KS.LOCK and KS.MEMO wait when the caller names no WAIT; 0: as long as it takes", duration(func(c *config) *time.Duration { return &c.lockWait }, time.Millisecond, 0, maxMillis)},
	{"ks-tag-split", "first|last", "first", `the ":" of a name that ends its tag; the same on all proxies of one Redis`, choice(func(c *config) *string { return &c.tagSplit }, "first", "last")},
	{"ks-interop", "no|keysmith", "no", "keysmith: listen to the hand-offs of KeySmith for .NET, too", choice(func(c *config) *string { return &c.interop }, "no", "keysmith")},
}

// lookup finds a directive by its name in any case.
func lookup(name string) *directive {
	for i := range directives {
		if strings.EqualFold(directives[i].name, name) {
			return &directives[i]
		}
	}
	return nil
}

func directiveNames() []string {
	names := make([]string, len(directives))
	for i, d := range directives {
		names[i] = d.name
	}
	return names
}
