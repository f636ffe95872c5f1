package integration

import (
	"crypto/tls"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// dialTLS connects to the proxy's TLS port; the error is that of the handshake, which with TLS 1.3 a server
// that does not like the client's certificate tells only after it.
func dialTLS(t *testing.T, port int, config *tls.Config) (*harness.Conn, error) {
	t.Helper()
	conn, err := tls.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port), config)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(harness.Patience))
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return nil, err
	}
	pong := make([]byte, len("+PONG\r\n"))
	if _, err := conn.Read(pong); err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	return harness.NewConn(conn), nil
}

func TestTLSClientsLockAndAreRelayed(t *testing.T) {
	ca, stranger := harness.NewAuthority(t, "ca"), harness.NewAuthority(t, "stranger")
	serverCert, serverKey := ca.Issue("server", false)
	known, unknown := ca.ClientTLS(ca.Issue("client", false)), ca.ClientTLS(stranger.Issue("client", false))
	anonymous := ca.ClientTLS("", "")
	for auth, welcome := range map[string][3]bool{
		"yes": {true, false, false}, "optional": {true, false, true}, "no": {true, true, true},
	} {
		t.Run(auth, func(t *testing.T) {
			port := harness.FreePort(t)
			harness.StartProxy(t, harness.StartRedis(t), "--tls-port", strconv.Itoa(port), "--tls-cert-file", serverCert,
				"--tls-key-file", serverKey, "--tls-ca-cert-file", ca.File, "--tls-auth-clients", auth)
			for i, config := range []*tls.Config{known, unknown, anonymous} {
				if _, err := dialTLS(t, port, config); (err == nil) != welcome[i] {
					t.Errorf("client %d: %v", i, err)
				}
			}
			holder, err := dialTLS(t, port, known)
			if err != nil {
				t.Fatal(err)
			}
			waiter, err := dialTLS(t, port, known)
			if err != nil {
				t.Fatal(err)
			}
			big := strings.Repeat("x", 1<<20)
			holder.Asks(t, "+OK\r\n", "SET", "big", big)
			holder.Asks(t, "$"+strconv.Itoa(len(big))+"\r\n"+big+"\r\n", "GET", "big")
			if got := holder.Do(t, "KS.LOCK", "n", "SESSION"); !strings.HasPrefix(got, "*2\r\n") {
				t.Fatal(got)
			}
			waiter.Send(t, harness.Command("KS.LOCK", "n")+harness.Command("PING", "behind"))
			until(t, "the waiter stands in line", harness.Patience, func() bool {
				return strings.Contains(holder.Do(t, "KS.STATUS", "n"), "waiters\r\n:1\r\n")
			})
			holder.Close() // and with it the hold
			if got := waiter.Reply(t); !strings.HasPrefix(got, "*2\r\n") {
				t.Error(got)
			}
			waiter.Want(t, "$6\r\nbehind\r\n")
		})
	}
}

func TestRedisIsReachedOverTLS(t *testing.T) {
	ca := harness.NewAuthority(t, "ca")
	cert, key := ca.Issue("redis", false)
	ownCert, ownKey := ca.Issue("proxy", false)
	port := strconv.Itoa(harness.FreePort(t))
	redis := harness.StartRedis(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", ca.File)
	proxy := harness.StartProxyWith(t, harness.ProxyOptions{Upstream: "rediss://127.0.0.1:" + port, Args: []string{
		"--upstream-tls-ca-cert-file", ca.File, "--upstream-tls-cert-file", ownCert, "--upstream-tls-key-file", ownKey,
	}})
	a, b := proxy.Dial(t), harness.Dial(t, "unix", proxy.Socket)
	token := strings.Split(a.Do(t, "KS.LOCK", "n"), "\r\n")
	if token[0] != "*2" {
		t.Fatal(token)
	}
	b.Send(t, harness.Command("KS.LOCK", "n"))
	until(t, "the waiter stands in line", harness.Patience, func() bool { return waiting(t, redis, "n") == ":1\r\n" })
	a.Asks(t, ":1\r\n", "KS.UNLOCK", "n", token[2])
	if got := b.Reply(t); !strings.HasPrefix(got, "*2\r\n") {
		t.Error(got)
	}
	big := strings.Repeat("y", 4<<20)
	b.Asks(t, "+OK\r\n", "SET", "big", big)
	if got := redis.Do(t, "STRLEN", "big"); got != ":4194304\r\n" {
		t.Error(got)
	}
}
