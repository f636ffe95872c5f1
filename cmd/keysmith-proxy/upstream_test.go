package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

func TestAnUpstreamIsParsed(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want upstreamURL
		name string // for the log
	}{
		{"embedded", upstreamURL{scheme: "embedded"}, "embedded"},
		{"redis://h", upstreamURL{scheme: "redis", host: "h", port: "6379"}, "redis://h:6379"},
		{"REDIS://h:1/", upstreamURL{scheme: "redis", host: "h", port: "1"}, "redis://h:1"},
		{"redis://[::1]", upstreamURL{scheme: "redis", host: "::1", port: "6379"}, "redis://[::1]:6379"},
		{"rediss://[fe80::1%eth0]:7", upstreamURL{scheme: "rediss", host: "fe80::1%eth0", port: "7"}, "rediss://[fe80::1%eth0]:7"},
		{"rediss://u:p@h:2", upstreamURL{scheme: "rediss", host: "h", port: "2", user: "u", password: "p"}, "rediss://h:2"},
		{"redis://:p@h", upstreamURL{scheme: "redis", host: "h", port: "6379", password: "p"}, "redis://h:6379"},
		{"redis://u%40x:p%2F%25:q@w@h", upstreamURL{scheme: "redis", host: "h", port: "6379", user: "u@x", password: "p/%:q@w"}, "redis://h:6379"},
		{"redis://u:a/b?c#d@h", upstreamURL{scheme: "redis", host: "h", port: "6379", user: "u", password: "a/b?c#d"}, "redis://h:6379"},
		{"unix:///run/redis.sock", upstreamURL{scheme: "unix", path: "/run/redis.sock"}, "unix:///run/redis.sock"},
		{"unix://u:p@/run/a%20b", upstreamURL{scheme: "unix", path: "/run/a b", user: "u", password: "p"}, "unix:///run/a b"},
	} {
		got, err := parseUpstream(tt.in)
		if err != nil || got != tt.want || got.String() != tt.name {
			t.Errorf("%s: got %#v (%s), %v", tt.in, got, got, err)
		}
	}
}

func TestAWrongUpstreamIsToldWithoutRepeatingIt(t *testing.T) {
	const form = "write embedded, redis://[user:password@]host:port, rediss://... or unix:///path"
	for _, tt := range []struct{ in, want string }{
		{"", "is no upstream; " + form},
		{"secret", "is no upstream; " + form},
		{"localhost:6379", "is no upstream; " + form},
		{"http://u:secret@h", "is no upstream; " + form},
		{"redis://", "the host is missing or malformed; " + form},
		{"redis://:1", "the host is missing or malformed; " + form},
		{"redis://u:secret@", "the host is missing or malformed; " + form},
		{"redis://u:secret", "the port is not a number from 1 to 65535; " + form},
		{"redis://u:secret@h:0", "the port is not a number from 1 to 65535; " + form},
		{"redis://u:secret@h:65536", "the port is not a number from 1 to 65535; " + form},
		{"redis://u:secret@::1:5", "host and port can't be told apart, an IPv6 address needs brackets; " + form},
		{"redis://secret@h", "a user or a password alone is ambiguous before the @; write user:password@ or :password@"},
		{"redis://u:secret%zz@h", "the user or the password contains a % that begins no escape; write it as %25, or use upstream-user and upstream-password"},
		{"redis://u:secret@h/0", "a database can't be chosen here, clients do with SELECT; " + form},
		{"redis://h/3", "a database can't be chosen here, clients do with SELECT; " + form},
		{"redis://h?db=3", "options behind ? or # don't exist here; " + form},
		{"unix://u:secret@/s?db=3", "options behind ? or # don't exist here; " + form},
		{"unix://redis.sock", "the socket's path must be absolute; write unix:///path"},
		{"unix:///a%", "the path contains a % that begins no escape; write it as %25"},
	} {
		_, err := parseUpstream(tt.in)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s: got %v, want %s", tt.in, err, tt.want)
		}
	}
}

func TestOwnCredentialsAreThoseOfTheURLUnlessNamed(t *testing.T) {
	for _, tt := range []struct{ text, user, password string }{
		{"upstream redis://h", "", ""},
		{"upstream redis://u:p@h", "u", "p"},
		{"upstream redis://:p@h", "", "p"},
		{"upstream redis://u:p@h\nupstream-user v\nupstream-password q", "v", "q"},
		{"upstream redis://u:p@h\nupstream-password q", "u", "q"},
	} {
		c, err := loadText(t, tt.text)
		if err != nil {
			t.Fatal(err)
		}
		if user, password := c.credentials(); user != tt.user || password != tt.password {
			t.Errorf("%s: got %s, %s", tt.text, user, password)
		}
	}
}

func TestWhichUpstreamsAreLocal(t *testing.T) {
	for upstream, want := range map[string]bool{
		"embedded": true, "unix:///s": true, "redis://127.0.0.1": true, "redis://127.9.9.9:1": true,
		"rediss://[::1]": true, "redis://localhost": true, "redis://0.0.0.0": true,
		"redis://192.0.2.1": false, "redis://[2001:db8::1]": false, "redis://nowhere.invalid": false,
	} {
		u, err := parseUpstream(upstream)
		if err != nil {
			t.Fatal(err)
		}
		if got := u.local(t.Context()); got != want {
			t.Errorf("%s: got %v", upstream, got)
		}
	}
}

// greeter is a server that greets everybody who connects and hangs up.
func greeter(t *testing.T, l net.Listener) {
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				fmt.Fprintf(conn, "+hello\r\n")
			}()
		}
	}()
}

// greeting dials and returns what is read.
func greeting(ctx context.Context, u *upstream) (string, error) {
	conn, err := u.dial(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 8)
	n, err := conn.Read(b)
	return string(b[:n]), err
}

func TestDialReachesTCPAndUnixSockets(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	unix, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	greeter(t, tcp)
	greeter(t, unix)
	for _, value := range []string{"redis://" + tcp.Addr().String(), "unix://" + path} {
		u, err := parseUpstream(value)
		if err != nil {
			t.Fatal(err)
		}
		for _, keepAlive := range []time.Duration{0, time.Minute} {
			if got, err := greeting(t.Context(), &upstream{url: u, keepAlive: keepAlive}); err != nil || got != "+hello\r\n" {
				t.Errorf("%s: got %q, %v", value, got, err)
			}
		}
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	u, _ := parseUpstream("rediss://" + silent.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = (&upstream{url: u, tls: &tls.Config{ServerName: "localhost"}}).dial(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// upstreamOf is what the daemon makes of a configuration.
func upstreamOf(t *testing.T, text string) *upstream {
	t.Helper()
	c, err := loadText(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return &upstream{url: c.upstream, tls: c.upstreamTLS, keepAlive: c.tcpKeepAlive}
}

func TestDialSpeaksMutualTLS(t *testing.T) {
	ca, stranger := harness.NewAuthority(t, "ca"), harness.NewAuthority(t, "stranger")
	serverCert, serverKey := ca.Issue("server", false)
	clientCert, clientKey := ca.Issue("client", false)
	pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{pair},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    ca.ClientTLS("", "").RootCAs,
	})
	if err != nil {
		t.Fatal(err)
	}
	greeter(t, l)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	ip, name := "upstream rediss://127.0.0.1:"+port+"\n", "upstream rediss://localhost:"+port+"\n"
	own := fmt.Sprintf("upstream-tls-cert-file %s\nupstream-tls-key-file %s\n", clientCert, clientKey)
	trust := "upstream-tls-ca-cert-file " + ca.File + "\n"
	for _, tt := range []struct {
		what, text string
		want       string // part of the error; empty: none
	}{
		{"all right", ip + own + trust, ""},
		{"by name", name + own + trust, ""},
		{"by another name of the certificate", ip + own + trust + "upstream-tls-server-name redis.test", ""},
		{"insecure", ip + own + "upstream-tls-insecure yes", ""},
		{"without a certificate", ip + trust, "certificate required"},
		{"with the system's roots", ip + own, "certificate signed by unknown authority"},
		{"with another authority", ip + own + "upstream-tls-ca-cert-file " + stranger.File, "certificate signed by unknown authority"},
		{"under a wrong name", ip + own + trust + "upstream-tls-server-name other.test", "other.test"},
	} {
		got, err := greeting(t.Context(), upstreamOf(t, tt.text))
		if tt.want == "" && (err != nil || got != "+hello\r\n") {
			t.Errorf("%s: got %q, %v", tt.what, got, err)
		}
		if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %q, %v", tt.what, got, err)
		}
	}
}

func TestTLSFilesAreCheckedWithTheConfiguration(t *testing.T) {
	a := harness.NewAuthority(t, "ca")
	cert, key := a.Issue("a", false)
	_, otherKey := a.Issue("b", false)
	junk := writeFile(t, filepath.Dir(a.File), "junk", "no PEM")
	pair := "tls-cert-file " + cert + "\ntls-key-file " + key + "\n"
	for _, tt := range []struct{ text, want string }{
		{"tls-port 7\n" + pair, "tls-auth-clients: yes needs the authorities of the clients' certificates; set tls-ca-cert-file, or tls-auth-clients no"},
		{"tls-port 7\ntls-auth-clients optional\n" + pair, "redis.conf:2: tls-auth-clients: optional needs the authorities"},
		{"tls-port 7\ntls-cert-file " + cert, "redis.conf:2: tls-cert-file: its key is missing; set tls-key-file"},
		{"tls-port 7\ntls-key-file " + key, "redis.conf:2: tls-key-file: its certificate is missing; set tls-cert-file"},
		{"tls-port 7\ntls-cert-file /none\ntls-key-file " + key, "redis.conf:2: tls-cert-file: open /none: no such file or directory"},
		{"tls-port 7\ntls-cert-file " + cert + "\ntls-key-file /none", "redis.conf:3: tls-key-file: open /none: no such file or directory"},
		{"tls-port 7\ntls-cert-file " + cert + "\ntls-key-file " + otherKey, "redis.conf:2: tls-cert-file: a.crt and b.key are not a certificate and its unencrypted key in PEM: tls: private key does not match public key"},
		{"tls-port 7\n" + pair + "tls-ca-cert-file " + junk, "redis.conf:4: tls-ca-cert-file: no certificate found in junk; PEM is expected"},
		{"upstream rediss://h\nupstream-tls-ca-cert-file /none", "redis.conf:2: upstream-tls-ca-cert-file: open /none: no such file or directory"},
		{"upstream rediss://h\nupstream-tls-cert-file " + cert, "redis.conf:2: upstream-tls-cert-file: its key is missing; set upstream-tls-key-file"},
	} {
		_, err := loadText(t, tt.text)
		if err = shorten(err, filepath.Dir(a.File)+"/"); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s:\n got %v\nwant %s", tt.text, err, tt.want)
		}
	}
	for _, text := range []string{"tls-port 7\ntls-auth-clients no\n" + pair, "tls-cert-file /none", "upstream-tls-key-file /none"} {
		if _, err := loadText(t, text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestWhatHasNoEffectIsWarnedOf(t *testing.T) {
	for text, want := range map[string]string{
		"upstream redis://h\nupstream-tls-server-name n": "redis.conf:2: upstream-tls-server-name: has no effect; TLS towards Redis needs an upstream that begins with rediss://",
		"upstream-tls-insecure yes\nupstream rediss://h": "redis.conf:1: upstream-tls-insecure: whoever answers is taken for Redis",
	} {
		c, err := loadText(t, text)
		if err != nil {
			t.Fatal(err)
		}
		if w := c.warnings(); len(w) != 1 || !strings.HasSuffix(w[0].Error(), want) {
			t.Errorf("%s: got %v", text, w)
		}
	}
	example, err := os.ReadFile("../../redis.conf.example")
	if err != nil {
		t.Fatal(err)
	}
	if c, err := loadText(t, string(example)); err != nil || len(c.warnings()) != 0 {
		t.Errorf("example: %v, %v", err, c.warnings())
	}
}
