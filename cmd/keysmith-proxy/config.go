package main

import (
	"crypto/tls"
	"io/fs"
	"log/slog"
	"time"
)

// config is what the directives say, one field per directive in the order of the
// table. It is complete once load has returned it without a problem.
type config struct {
	bind                  []string // as written, with the "-" of "ok if unavailable"
	port                  int      // 0: no plain TCP
	unixSocket            string   // empty: none
	unixSocketPerm        fs.FileMode
	tlsPort               int // 0: no TLS
	tlsCertFile           string
	tlsKeyFile            string
	tlsCACertFile         string
	tlsAuthClients        string // yes, no, optional
	protectedMode         bool
	upstream              upstreamURL
	upstreamUser          string // empty: the URL's
	upstreamPassword      string // empty: the URL's
	upstreamTLSCACertFile string // empty: the system's roots
	upstreamTLSCertFile   string
	upstreamTLSKeyFile    string
	upstreamTLSServerName string // empty: the host of the URL
	upstreamTLSInsecure   bool
	maxClients            int
	timeout               time.Duration // 0: never
	tcpKeepAlive          time.Duration // 0: off
	threads               int           // 0: half the cores
	logLevel              slog.Level
	logFile               string // empty: standard error
	lockTTL               time.Duration
	lockWait              time.Duration // 0: as long as it takes
	tagSplit              string        // first, last
	interop               string        // no, keysmith

	// serverTLS and upstreamTLS are made of the files above; nil where TLS is off.
	serverTLS   *tls.Config
	upstreamTLS *tls.Config

	origins map[string]origin // where each directive was last set; none: the default
}

// credentials of the proxy's own connections.
func (c *config) credentials() (user, password string) {
	user, password = c.upstream.user, c.upstream.password
	if c.upstreamUser != "" {
		user = c.upstreamUser
	}
	if c.upstreamPassword != "" {
		password = c.upstreamPassword
	}
	return user, password
}

// defaults returns the configuration of an empty file.
func defaults() *config {
	c := &config{origins: map[string]origin{}}
	for _, d := range directives {
		words, err := splitWords(d.deflt)
		if err == nil {
			err = d.set(c, words)
		}
		if err != nil {
			panic("default of " + d.name + ": " + err.Error())
		}
	}
	return c
}
