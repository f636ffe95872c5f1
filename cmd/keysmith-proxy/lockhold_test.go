package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

func TestRepliesAreRead(t *testing.T) {
	for in, want := range map[string]reply{
		"+OK\r\n":                  {kind: '+', text: "OK"},
		"-ERR no\r\n":              {kind: '-', text: "ERR no"},
		":12\r\n":                  {kind: ':', text: "12"},
		"$3\r\na\r\n\r\n":          {kind: '$', text: "a\r\n"},
		"$0\r\n\r\n":               {kind: '$'},
		"$-1\r\n":                  {kind: '$', null: true},
		"*-1\r\n":                  {kind: '*', null: true},
		"_\r\n":                    {kind: '_', null: true},
		"*2\r\n:1\r\n*1\r\n+a\r\n": {kind: '*', elems: []reply{{kind: ':', text: "1"}, {kind: '*', elems: []reply{{kind: '+', text: "a"}}}}},
		"%1\r\n+a\r\n#t\r\n":       {kind: '%', elems: []reply{{kind: '+', text: "a"}, {kind: '#', text: "t"}}},
		">1\r\n$1\r\na\r\n":        {kind: '>', elems: []reply{{kind: '$', text: "a"}}},
	} {
		if in == "_\r\n" {
			want.text = ""
		}
		got, err := readReply(bufio.NewReader(strings.NewReader(in)))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v; want %+v", in, got, err, want)
		}
		for cut := range len(in) {
			if got, err := readReply(bufio.NewReader(strings.NewReader(in[:cut]))); err != io.EOF && err != io.ErrUnexpectedEOF {
				t.Errorf("%q: %+v, %v; want an end of file", in[:cut], got, err)
			}
		}
	}
}

func TestWhatIsNotRESPIsToldFromIt(t *testing.T) {
	for _, in := range []string{
		"HTTP/1.1 400 Bad Request\r\n", "\r\n", "\n", "+\n", "$x\r\n", "$-2\r\n", "*99999999999\r\n", "*2000\r\n", "$2000000\r\n",
		strings.Repeat("*1\r\n", 100), "+" + strings.Repeat("x", 5000),
	} {
		if got, err := readReply(bufio.NewReader(strings.NewReader(in))); !errors.Is(err, errNoReply) {
			t.Errorf("%.20q: %+v, %v", in, got, err)
		}
	}
}

// scriptedProxy listens, and has serve talk to each client; it returns options that
// lead to it.
func scriptedProxy(t *testing.T, serve func(conn net.Conn, r *bufio.Reader)) *lockOptions {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return served(t, l, serve)
}

// served is scriptedProxy on l.
func served(t *testing.T, l net.Listener, serve func(conn net.Conn, r *bufio.Reader)) *lockOptions {
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn, bufio.NewReader(conn))
			}()
		}
	}()
	host, port, _ := net.SplitHostPort(l.Addr().String())
	return &lockOptions{host: host, port: port, name: "n", commandLine: []string{"cat"}, conflict: 1}
}

// expect reads a command and returns its words.
func expect(r *bufio.Reader) []string {
	v, err := readReply(r)
	if err != nil {
		return nil
	}
	var words []string
	for _, e := range v.elems {
		words = append(words, e.text)
	}
	return words
}

const helloReply = "%1\r\n$5\r\nproto\r\n:3\r\n"

// granting answers HELLO and grants the lock.
func granting(conn net.Conn, r *bufio.Reader) {
	expect(r)
	io.WriteString(conn, helloReply)
	expect(r)
	io.WriteString(conn, "*2\r\n$3\r\ntok\r\n:7\r\n")
}

func acquired(t *testing.T, o *lockOptions) *hold {
	t.Helper()
	l := &lockRun{lockOptions: o}
	h, err := l.ask(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.close)
	if want := (grant{"tok", "7"}); h.grant != want {
		t.Errorf("granted %+v, want %+v", h.grant, want)
	}
	return h
}

func TestALockIsAskedForAsTheOptionsSay(t *testing.T) {
	for _, tt := range []struct {
		set  func(*lockOptions)
		want []string
	}{
		{func(*lockOptions) {}, []string{"HELLO 3 SETNAME", "KS.LOCK n SESSION"}},
		{func(o *lockOptions) { o.noWait = true }, []string{"HELLO 3 SETNAME", "KS.LOCK n SESSION NOWAIT"}},
		{func(o *lockOptions) { o.wait = lockWait(2 * time.Second) }, []string{"HELLO 3 SETNAME", "KS.LOCK n SESSION WAIT 2000"}},
		{func(o *lockOptions) { o.pass = "p" }, []string{"HELLO 3 AUTH default p SETNAME", "KS.LOCK n SESSION"}},
		{func(o *lockOptions) { o.user, o.pass = "u", "p" }, []string{"HELLO 3 AUTH u p SETNAME", "KS.LOCK n SESSION"}},
		{func(o *lockOptions) { o.db = 4 }, []string{"HELLO 3 SETNAME", "SELECT 4", "KS.LOCK n SESSION"}},
	} {
		asked := make(chan string, 8)
		o := scriptedProxy(t, func(conn net.Conn, r *bufio.Reader) {
			for {
				words := expect(r)
				switch {
				case len(words) == 0:
					return
				case words[0] == "HELLO":
					asked <- strings.Join(words[:len(words)-1], " ") // without the name
					io.WriteString(conn, helloReply)
				case words[0] == "SELECT":
					asked <- strings.Join(words, " ")
					io.WriteString(conn, "+OK\r\n")
				default:
					asked <- strings.Join(words, " ")
					io.WriteString(conn, "*2\r\n$3\r\ntok\r\n:7\r\n")
				}
			}
		})
		tt.set(o)
		acquired(t, o)
		for _, want := range tt.want {
			if got := <-asked; got != want {
				t.Errorf("asked %q, want %q", got, want)
			}
		}
	}
}

func TestALossIsTheEndOfTheConnectionOrThePushForThisToken(t *testing.T) {
	for name, tt := range map[string]struct {
		says string // by the proxy, after the grant
		want string // "": no loss
	}{
		"the connection ends":  {"", "the connection to the proxy broke (EOF)"},
		"it is told":           {">3\r\n$7\r\nks.lost\r\n$1\r\nn\r\n$3\r\ntok\r\n", "it was deleted, or could not be renewed"},
		"it is not the token":  {">3\r\n$7\r\nks.lost\r\n$1\r\nn\r\n$3\r\nold\r\n", ""},
		"it is another push":   {">2\r\n$10\r\ninvalidate\r\n_\r\n", ""},
		"it is no Redis":       {"hello\r\n", "is not the Redis protocol"},
		"an answer to no ping": {"+PONG\r\n", ""},
	} {
		o := scriptedProxy(t, func(conn net.Conn, r *bufio.Reader) {
			granting(conn, r)
			io.WriteString(conn, tt.says)
		})
		h := acquired(t, o)
		err := h.receive(<-h.messages)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestASilentProxyIsALoss(t *testing.T) {
	o := scriptedProxy(t, func(conn net.Conn, r *bufio.Reader) {
		granting(conn, r)
		io.Copy(io.Discard, r)
	})
	var errs bytes.Buffer
	l := &lockRun{lockOptions: o, stderr: &errs, pulse: time.Millisecond}
	l.commandLine = []string{"sh", "-c", "exec sleep 1000"}
	if status := l.run(); status != 128+15 || !strings.Contains(errs.String(), "not answered for too long; sending TERM to the command") {
		t.Errorf("status %d, %s", status, errs.String())
	}
}

func TestAfterSilenceTheConnectionIsKeptForTheCommand(t *testing.T) {
	heard := make(chan []string)
	o := scriptedProxy(t, func(conn net.Conn, r *bufio.Reader) {
		granting(conn, r)
		for words := expect(r); words != nil; words = expect(r) {
			heard <- words
		}
	})
	o.onLoss = "keep"
	h := acquired(t, o)
	var errs bytes.Buffer
	l := &lockRun{lockOptions: o, stderr: &errs}
	for range maxUnanswered {
		l.heed(h, nil, h.ping())
		<-heard
	}
	if errs.Len() > 0 {
		t.Errorf("%s", &errs)
	}
	for range 3 {
		l.heed(h, nil, h.ping())
	}
	if got := strings.Count(errs.String(), "lost the lock, most likely"); got != 1 {
		t.Errorf("said %d times: %s", got, &errs)
	}
	h.conn.send("ECHO")
	if got := <-heard; !reflect.DeepEqual(got, []string{"ECHO"}) {
		t.Errorf("the proxy hears %q", got)
	}
}

func TestAnyAnswerIsASignOfLife(t *testing.T) {
	pinged := make(chan []string)
	o := scriptedProxy(t, func(conn net.Conn, r *bufio.Reader) {
		granting(conn, r)
		for words := expect(r); words != nil; words = expect(r) {
			pinged <- words
			io.WriteString(conn, "-NOPERM this user has no permissions to run the 'ping' command\r\n")
		}
	})
	h := acquired(t, o)
	for range 3 * maxUnanswered {
		if err := h.ping(); err != nil {
			t.Fatal(err)
		}
		if got := <-pinged; !reflect.DeepEqual(got, []string{"PING"}) {
			t.Fatalf("sent %q", got)
		}
		if err := h.receive(<-h.messages); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAReleaseWaitsForItsOwnReply(t *testing.T) {
	for reply, want := range map[string]string{
		":1\r\n":         "",
		":0\r\n":         errReleased.Error(),
		"-NOPERM no\r\n": "NOPERM no",
		">3\r\n$7\r\nks.lost\r\n$1\r\nn\r\n$3\r\ntok\r\n": "it was deleted",
	} {
		o := scriptedProxy(t, func(conn net.Conn, r *bufio.Reader) {
			granting(conn, r)
			expect(r)
			expect(r)
			io.WriteString(conn, "+PONG\r\n"+reply)
			io.Copy(io.Discard, r)
		})
		h := acquired(t, o)
		h.ping()
		err := h.release()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", reply, err, want)
		}
	}
}

func TestWhyThereIsNoLockIsSaidWithWhatCanBeDone(t *testing.T) {
	for says, want := range map[string]string{
		"-ERR unknown command 'KS.LOCK', with args beginning with: 'n' \r\n":     "is this Redis itself, not keysmith-proxy?",
		"-NOAUTH HELLO must be called with the client already authenticated\r\n": "REDISCLI_AUTH",
		"-WRONGPASS invalid username-password pair or user is disabled.\r\n":     "WRONGPASS invalid",
		"-KSUNAVAILABLE proxy is shutting down\r\n":                              "KSUNAVAILABLE proxy is shutting down",
		"":                            "has closed the connection",
		"220 smtp.internal ESMTP\r\n": "is not the Redis protocol",
	} {
		o := scriptedProxy(t, func(conn net.Conn, r *bufio.Reader) {
			expect(r)
			io.WriteString(conn, says)
		})
		var errs bytes.Buffer
		l := &lockRun{lockOptions: o, stderr: &errs}
		if status := l.run(); status != 1 || !strings.HasPrefix(errs.String(), "keysmith-proxy lock: n: ") || !strings.Contains(errs.String(), want) {
			t.Errorf("%q: status %d, %s", says, status, errs.String())
		}
	}
}

func TestALockOverTLSIsBetweenWhoTrustEachOther(t *testing.T) {
	ours, theirs := harness.NewAuthority(t, "ours"), harness.NewAuthority(t, "theirs")
	serverCert, serverKey := ours.Issue("proxy", false)
	clientCert, clientKey := ours.Issue("client", false)
	pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	ca, err := x509.ParseCertificate(ours.DER())
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(ca)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
	})
	if err != nil {
		t.Fatal(err)
	}
	o := served(t, l, granting)
	good := lockTLS{on: true, caCert: ours.File, cert: clientCert, key: clientKey}
	for name, tt := range map[string]struct {
		change func(*lockTLS)
		want   string // "": it is granted
	}{
		"all is right":                {func(*lockTLS) {}, ""},
		"another name of the proxy":   {func(c *lockTLS) { c.sniName = "redis.test" }, ""},
		"not the name of the proxy":   {func(c *lockTLS) { c.sniName = "evil.test" }, "evil.test"},
		"signed by somebody else":     {func(c *lockTLS) { c.caCert = theirs.File }, "unknown authority"},
		"by somebody else, but taken": {func(c *lockTLS) { c.caCert, c.insecure = theirs.File, true }, ""},
		"no certificate":              {func(c *lockTLS) { c.cert, c.key = "", "" }, "certificate required"},
		"a file that is not there":    {func(c *lockTLS) { c.caCert = "/nonexistent" }, "--cacert: open /nonexistent"},
		"a file without certificate":  {func(c *lockTLS) { c.caCert = clientKey }, "--cacert: no certificate in"},
		"a key that is none":          {func(c *lockTLS) { c.key = clientCert }, "--cert and --key: "},
	} {
		o := *o
		o.tls = good
		tt.change(&o.tls)
		h, err := (&lockRun{lockOptions: &o}).ask(t.Context())
		if err == nil {
			h.close()
		}
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
