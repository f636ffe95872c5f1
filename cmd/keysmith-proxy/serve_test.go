package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// asCommand makes the test binary be keysmith-proxy.
const asCommand = "TEST_AS_KEYSMITH_PROXY"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	os.Exit(m.Run())
}

// process is a running keysmith-proxy.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string // of its standard error; closed at its end
	log   strings.Builder
	ended chan error
}

// start runs a command line. The end of the test kills what is left of it.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(os.Args[0], args...), lines: make(chan string, 1000), ended: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), asCommand+"=1")
	errs, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for in := bufio.NewScanner(errs); in.Scan(); {
			p.lines <- in.Text()
		}
		close(p.lines)
		p.ended <- p.cmd.Wait()
	}()
	t.Cleanup(func() { p.cmd.Process.Kill() })
	return p
}

// says waits for a line of the log with that text in it, and returns it.
func (p *process) says(text string) string {
	p.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("it ended without %q:\n%s", text, &p.log)
			}
			fmt.Fprintln(&p.log, line)
			if strings.Contains(line, text) {
				return line
			}
		case <-deadline:
			p.t.Fatalf("%q never came:\n%s", text, &p.log)
		}
	}
}

// endsWith waits for the end of the process and wants that exit status.
func (p *process) endsWith(status int) {
	p.t.Helper()
	for line := range p.lines {
		fmt.Fprintln(&p.log, line)
	}
	<-p.ended
	if got := p.cmd.ProcessState.ExitCode(); got != status {
		p.t.Errorf("exit status %d, want %d:\n%s", got, status, &p.log)
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

func connect(t *testing.T, network, addr string) *talk {
	t.Helper()
	conn, err := net.Dial(network, addr)
	return talkTo(t, conn, err)
}

func TestItSaysWhereItListensWhatIsBehindAndHowToTryIt(t *testing.T) {
	port := freePort(t)
	p := start(t, "--port", fmt.Sprint(port), "--bind", "127.0.0.1")
	if line := p.says("embedded Redis"); !strings.Contains(line, "level=warning") || !strings.Contains(line, "nothing is kept after exit, not for production") {
		t.Errorf("got %s", line)
	}
	p.says(fmt.Sprintf("addr=127.0.0.1:%d", port))
	p.says(`server="embedded`)
	if line := p.says("to try it"); !strings.Contains(line, fmt.Sprintf("redis-cli -p %d KS.LOCK hello", port)) {
		t.Errorf("got %s", line)
	}
	c := connect(t, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	c.waitUntil("KS.LOCK hello PX 50", func(r string) bool {
		if r != "*2" {
			return false // the engine has no connection yet
		}
		c.read() // token
		return strings.HasPrefix(c.read(), ":")
	})
	p.signal(syscall.SIGTERM)
	p.endsWith(0)
}

func TestASignalEndsItInOrder(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		socket := filepath.Join(t.TempDir(), "s")
		p := start(t, "--port", "0", "--unixsocket", socket, "--unixsocketperm", "600")
		p.says("ready")
		holder, waiter := connect(t, "unix", socket), connect(t, "unix", socket)
		holder.waitUntil("KS.LOCK n", func(r string) bool { return r == "*2" })
		fmt.Fprintf(waiter.conn, "%s\r\n", asArray("KS.LOCK n"))
		other := connect(t, "unix", socket)
		other.waitUntil("EXISTS n/lockwaiting", func(r string) bool { return r == ":1" })

		p.signal(signal)
		if got := waiter.read(); !strings.HasPrefix(got, "-KSUNAVAILABLE ") {
			t.Errorf("%v: the waiter got %s", signal, got)
		}
		p.endsWith(0)
		if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v: the socket is still there: %v", signal, err)
		}
	}
}

func TestASecondSignalEndsItAtOnce(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	p := start(t, "--port", "0", "--unixsocket", socket)
	p.says("ready")
	c := connect(t, "unix", socket)
	// A reply in flight that its client doesn't read is waited for.
	c.ask("SETRANGE big 50000000 x")
	fmt.Fprintf(c.conn, "%s\r\n", asArray("GET big"))
	if _, err := c.in.Peek(1); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	p.signal(syscall.SIGTERM)
	p.says("stopping")
	ended := make(chan struct{})
	go func() {
		for again := time.NewTicker(sameSignal); ; {
			select {
			case <-ended:
				return
			case <-again.C:
				p.cmd.Process.Signal(syscall.SIGTERM)
			}
		}
	}()
	p.endsWith(1)
	close(ended)
	if took := time.Since(begin); took > drainReplies/2 {
		t.Errorf("it took %v", took)
	}
	if !strings.Contains(p.log.String(), "second signal") {
		t.Errorf("got %s", &p.log)
	}
}

func TestAHangUpOfItsTerminalEndsNothing(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	p := start(t, "--port", "0", "--unixsocket", socket)
	p.says("ready")
	p.signal(syscall.SIGHUP)
	p.signal(syscall.SIGPIPE)
	if got := connect(t, "unix", socket).ask("PING"); got != "+PONG" {
		t.Errorf("got %s", got)
	}
	p.signal(syscall.SIGTERM)
	p.endsWith(0)
}

func TestClientsAreClosedAtOnceUntilRedisIsThere(t *testing.T) {
	redisPort, socket := freePort(t), filepath.Join(t.TempDir(), "s")
	addr := fmt.Sprintf("127.0.0.1:%d", redisPort)
	p := start(t, "--port", "0", "--unixsocket", socket, "--upstream", "redis://:hunter2@"+addr)
	p.says("redis can't be reached")
	c := connect(t, "unix", socket)
	if b, err := c.in.ReadByte(); err == nil {
		t.Errorf("got %q", b)
	}
	redis := miniredis.NewMiniRedis()
	redis.RequireAuth("hunter2")
	if err := redis.StartAddr(addr); err != nil {
		t.Skip("the port was taken meanwhile: ", err)
	}
	defer redis.Close()
	p.says("redis is reached")
	p.says("ready")
	if got := connect(t, "unix", socket).ask("PING"); got != "-NOAUTH Authentication required." {
		t.Errorf("a client got %s: it was lent the proxy's password", got)
	}
	p.signal(syscall.SIGTERM)
	p.endsWith(0)
	if strings.Contains(p.log.String(), "hunter2") {
		t.Errorf("a password is in the log:\n%s", &p.log)
	}
}

func TestWhatKeepsItFromStartingIsSaid(t *testing.T) {
	l := listenLoopback(t)
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	p := start(t, "--bind", "127.0.0.1", "--port", port)
	p.says("another process listens on 127.0.0.1:" + port + " already")
	p.endsWith(1)
}
