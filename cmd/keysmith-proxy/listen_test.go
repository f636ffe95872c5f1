package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/proxy"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

var quiet = slog.New(slog.DiscardHandler)

// freePort returns a TCP port that nobody listens on just now.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// listen opens the listeners of a configuration; the test's end closes them.
func listen(t *testing.T, text string) ([]proxy.Listener, error) {
	t.Helper()
	c, err := loadText(t, text)
	if err != nil {
		t.Fatal(err)
	}
	open, err := openListeners(t.Context(), c, quiet)
	t.Cleanup(func() {
		for _, l := range open {
			l.Close()
		}
	})
	return open, err
}

func addresses(open []proxy.Listener) (addrs []string) {
	for _, l := range open {
		addrs = append(addrs, l.Addr().String())
	}
	return addrs
}

func TestEachBoundAddressIsListenedOn(t *testing.T) {
	port := freePort(t)
	open, err := listen(t, fmt.Sprintf("bind 127.0.0.1 127.0.0.2 -192.0.2.1\nport %d", port))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("[127.0.0.1:%d 127.0.0.2:%d]", port, port)
	if got := fmt.Sprint(addresses(open)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, l := range open {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Errorf("%s: %v", l.Addr(), err)
			continue
		}
		conn.Close()
	}
}

func TestAStarIsEveryAddress(t *testing.T) {
	open, err := listen(t, fmt.Sprintf("bind *\nport %d", freePort(t)))
	if err != nil || len(open) != 1 || !open[0].Addr().(*net.TCPAddr).IP.Equal(net.IPv4zero) {
		t.Errorf("got %v, %v", addresses(open), err)
	}
	open, err = listen(t, fmt.Sprintf("bind * -::*\nport %d", freePort(t)))
	if err != nil || len(open) == 0 { // a machine without IPv6 has only the first
		t.Errorf("got %v, %v", addresses(open), err)
	}
}

func TestAnAddressThatThisMachineDoesNotHaveIsAnErrorUnlessSaidToBeOptional(t *testing.T) {
	port := freePort(t)
	_, err := listen(t, fmt.Sprintf("port %d\nbind 127.0.0.1 192.0.2.1", port))
	want := fmt.Sprintf("port: this machine doesn't have the address of 192.0.2.1:%d; correct bind, or write -192.0.2.1 if that is all right", port)
	if err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	if conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
		conn.Close()
		t.Error("the other address is still listened on")
	}
	_, err = listen(t, "bind -192.0.2.1")
	if err == nil || !strings.HasSuffix(err.Error(), "redis.conf:1: bind: this machine has none of the addresses") {
		t.Errorf("got %v", err)
	}
}

func TestATakenPortIsAnErrorThatSaysSo(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	_, err = listen(t, fmt.Sprintf("port %d\nbind -127.0.0.1", port))
	want := fmt.Sprintf("redis.conf:1: port: another process listens on 127.0.0.1:%d already; choose another port", port)
	if err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestAMachineWithoutTheProtocolPassesOverTheAddress(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EAFNOSUPPORT, syscall.EPROTONOSUPPORT} {
		if err := (&net.OpError{Err: os.NewSyscallError("socket", errno)}); !unsupported(err) {
			t.Errorf("%v is taken for an error", err)
		}
	}
	if unsupported(&net.OpError{Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}) {
		t.Error("EADDRINUSE is passed over")
	}
}

func TestAUnixSocketReplacesAnOldOneAndGoesWithItsListener(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	old.Close()
	open, err := listen(t, "port 0\nunixsocketperm 640\nunixsocket "+path)
	if err != nil || len(open) != 1 {
		t.Fatal(addresses(open), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeSocket|0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	open[0].Close()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestAUnixSocketTakesNoOtherFilesPlace(t *testing.T) {
	path := writeFile(t, t.TempDir(), "data", "precious")
	_, err := listen(t, "unixsocket "+path+"\nport 0")
	if err == nil || !strings.HasSuffix(err.Error(), "redis.conf:1: unixsocket: "+path+" exists and is not a socket; remove it or choose another path") {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("got %q, %v", b, err)
	}
	_, err = listen(t, "unixsocket "+path+"/none\nport 0")
	if err == nil || !strings.Contains(err.Error(), "unixsocket: ") {
		t.Errorf("got %v", err)
	}
}

// shake accepts one connection of a listener with its TLS, greets, and returns
// what the client read.
func shake(t *testing.T, l proxy.Listener, client *tls.Config) (string, error) {
	t.Helper()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		conn = tls.Server(conn, l.TLS)
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprint(conn, "+hello\r\n")
		conn.Close()
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), client)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 8)
	n, err := conn.Read(b)
	return string(b[:n]), err
}

func TestTLSClientsAuthenticateAsTheConfigurationSays(t *testing.T) {
	ca, stranger := harness.NewAuthority(t, "ca"), harness.NewAuthority(t, "stranger")
	cert, key := ca.Issue("server", false)
	goodCert, goodKey := ca.Issue("client", false)
	badCert, badKey := stranger.Issue("client", false)
	good, bad, none := ca.ClientTLS(goodCert, goodKey), ca.ClientTLS(badCert, badKey), ca.ClientTLS("", "")
	for _, tt := range []struct {
		auth            string
		good, bad, none bool
	}{
		{"", true, false, false},
		{"tls-auth-clients yes", true, false, false},
		{"tls-auth-clients optional", true, false, true},
		{"tls-auth-clients no", true, true, true},
	} {
		open, err := listen(t, fmt.Sprintf("port 0\nbind 127.0.0.1\ntls-port %d\ntls-cert-file %s\ntls-key-file %s\ntls-ca-cert-file %s\n%s",
			freePort(t), cert, key, ca.File, tt.auth))
		if err != nil || len(open) != 1 {
			t.Fatal(addresses(open), err)
		}
		for what, c := range map[string]struct {
			client *tls.Config
			want   bool
		}{"of the authority": {good, tt.good}, "of a stranger": {bad, tt.bad}, "none": {none, tt.none}} {
			got, err := shake(t, open[0], c.client)
			if (err == nil && got == "+hello\r\n") != c.want {
				t.Errorf("%q, certificate %s: got %q, %v", tt.auth, what, got, err)
			}
		}
	}
}

func TestPlainAndTLSListenersAreToldApart(t *testing.T) {
	ca := harness.NewAuthority(t, "ca")
	cert, key := ca.Issue("server", false)
	open, err := listen(t, fmt.Sprintf("bind 127.0.0.1\nport %d\ntls-port %d\ntls-auth-clients no\ntls-cert-file %s\ntls-key-file %s",
		freePort(t), freePort(t), cert, key))
	if err != nil || len(open) != 2 || open[0].TLS != nil || open[1].TLS == nil {
		t.Errorf("got %v, %v", addresses(open), err)
	}
}

func TestTheCommandToTryReachesAListener(t *testing.T) {
	tcp := func(s string) net.Listener {
		addr, err := net.ResolveTCPAddr("tcp", s)
		if err != nil {
			t.Fatal(err)
		}
		return fakeListener{addr}
	}
	secured := &tls.Config{}
	unix := fakeListener{&net.UnixAddr{Name: "/run/s", Net: "unix"}}
	for _, tt := range []struct {
		listeners []proxy.Listener
		want      string
	}{
		{[]proxy.Listener{{Listener: tcp("127.0.0.1:6380")}, {Listener: tcp("[::1]:6380")}}, "redis-cli -p 6380 KS.LOCK hello"},
		{[]proxy.Listener{{Listener: tcp("0.0.0.0:7")}}, "redis-cli -p 7 KS.LOCK hello"},
		{[]proxy.Listener{{Listener: tcp("10.0.0.1:7")}}, "redis-cli -h 10.0.0.1 -p 7 KS.LOCK hello"},
		{[]proxy.Listener{{Listener: tcp("[::1]:7")}}, "redis-cli -h ::1 -p 7 KS.LOCK hello"},
		{[]proxy.Listener{{Listener: unix}}, "redis-cli -s /run/s KS.LOCK hello"},
		{[]proxy.Listener{{Listener: tcp("127.0.0.1:7"), TLS: secured}, {Listener: unix}}, "redis-cli -p 7 --tls --cacert CA --cert CERT --key KEY KS.LOCK hello"},
	} {
		if got := tryIt(defaults(), tt.listeners); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}

type fakeListener struct{ addr net.Addr }

func (l fakeListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (l fakeListener) Close() error              { return nil }
func (l fakeListener) Addr() net.Addr            { return l.addr }
