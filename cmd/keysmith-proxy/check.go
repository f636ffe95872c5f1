package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"
)

// maxUnixPath is what a socket address holds on Linux, less the final NUL; other
// systems take four bytes less.
const maxUnixPath = 107

// check judges what no directive can be judged by alone, and loads the TLS
// material, so that --check-config finds a missing file, too.
func (c *config) check() []error {
	var problems []error
	add := func(err error) {
		if err != nil {
			problems = append(problems, err)
		}
	}
	add(c.checkListeners())
	add(c.checkUpstream())
	if c.tlsPort != 0 {
		add(c.loadServerTLS())
	}
	if c.upstream.scheme == "rediss" {
		add(c.loadUpstreamTLS())
	}
	return problems
}

func (c *config) checkListeners() error {
	tcp := len(c.bind) > 0 && (c.port != 0 || c.tlsPort != 0)
	switch {
	case !tcp && c.unixSocket == "":
		return c.wrong("port", "there is nothing to listen on; set bind and port or tls-port, or unixsocket")
	case c.port != 0 && c.port == c.tlsPort:
		return c.wrong("tls-port", "%d is also the plain port; choose another, or port 0", c.port)
	case len(c.unixSocket) > maxUnixPath:
		return c.wrong("unixsocket", "the path has %d bytes; a socket's may have %d at most", len(c.unixSocket), maxUnixPath)
	}
	return nil
}

func (c *config) checkUpstream() error {
	if user, password := c.credentials(); user != "" && password == "" {
		name := "upstream-user"
		if c.upstreamUser == "" {
			name = "upstream"
		}
		return c.wrong(name, "a user without a password; set upstream-password (for a user with nopass, to anything)")
	}
	return nil
}

func (c *config) loadServerTLS() error {
	cert, err := c.keyPair("tls-cert-file", c.tlsCertFile, "tls-key-file", c.tlsKeyFile)
	if err != nil {
		return err
	}
	if cert == nil {
		return c.wrong("tls-port", "needs a certificate; set tls-cert-file and tls-key-file")
	}
	c.serverTLS = &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}
	if c.tlsAuthClients == "no" {
		return nil
	}
	c.serverTLS.ClientAuth = tls.RequireAndVerifyClientCert
	if c.tlsAuthClients == "optional" {
		c.serverTLS.ClientAuth = tls.VerifyClientCertIfGiven
	}
	if c.tlsCACertFile == "" {
		return c.wrong("tls-auth-clients", "%s needs the authorities of the clients' certificates; set tls-ca-cert-file, or tls-auth-clients no", c.tlsAuthClients)
	}
	c.serverTLS.ClientCAs, err = c.certPool("tls-ca-cert-file", c.tlsCACertFile)
	return err
}

func (c *config) loadUpstreamTLS() error {
	cert, err := c.keyPair("upstream-tls-cert-file", c.upstreamTLSCertFile, "upstream-tls-key-file", c.upstreamTLSKeyFile)
	if err != nil {
		return err
	}
	c.upstreamTLS = &tls.Config{
		ServerName:         c.upstream.host,
		InsecureSkipVerify: c.upstreamTLSInsecure,
		MinVersion:         tls.VersionTLS12,
	}
	if c.upstreamTLSServerName != "" {
		c.upstreamTLS.ServerName = c.upstreamTLSServerName
	}
	if cert != nil {
		c.upstreamTLS.Certificates = []tls.Certificate{*cert}
	}
	if c.upstreamTLSCACertFile != "" {
		c.upstreamTLS.RootCAs, err = c.certPool("upstream-tls-ca-cert-file", c.upstreamTLSCACertFile)
	}
	return err
}

// keyPair loads a certificate and its key; nil if neither is set.
func (c *config) keyPair(certName, certFile, keyName, keyFile string) (*tls.Certificate, error) {
	switch {
	case certFile == "" && keyFile == "":
		return nil, nil
	case keyFile == "":
		return nil, c.wrong(certName, "its key is missing; set %s", keyName)
	case certFile == "":
		return nil, c.wrong(keyName, "its certificate is missing; set %s", certName)
	}
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return nil, c.wrong(certName, "%w", err)
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, c.wrong(keyName, "%w", err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, c.wrong(certName, "%s and %s are not a certificate and its unencrypted key in PEM: %w", certFile, keyFile, err)
	}
	return &cert, nil
}

func (c *config) certPool(name, file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, c.wrong(name, "%w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, c.wrong(name, "no certificate found in %s; PEM is expected", file)
	}
	return pool, nil
}

// warnings are what is legal but hardly meant, or dangerous.
func (c *config) warnings() []error {
	tlsTowardsRedis := c.upstream.scheme == "rediss"
	switch {
	case tlsTowardsRedis && c.upstreamTLSInsecure:
		return []error{c.wrong("upstream-tls-insecure", "whoever answers is taken for Redis")}
	case tlsTowardsRedis:
		return nil
	}
	var warnings []error
	for name, set := range map[string]bool{
		"upstream-tls-ca-cert-file": c.upstreamTLSCACertFile != "",
		"upstream-tls-cert-file":    c.upstreamTLSCertFile != "",
		"upstream-tls-key-file":     c.upstreamTLSKeyFile != "",
		"upstream-tls-server-name":  c.upstreamTLSServerName != "",
		"upstream-tls-insecure":     c.upstreamTLSInsecure,
	} {
		if set {
			warnings = append(warnings, c.wrong(name, "has no effect; TLS towards Redis needs an upstream that begins with rediss://"))
		}
	}
	return warnings
}
