package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// Redis is a real redis-server that lives as long as the test that started it.
type Redis struct {
	*Process
	Port   int
	Addr   string // host:port, plain TCP
	Socket string // path of its Unix socket
	Dir    string // its working directory
	args   []string
}

// StartRedis starts a redis-server without persistence; config is further
// directives as command-line flags ("--maxclients", "10").
func StartRedis(t testing.TB, config ...string) *Redis {
	t.Helper()
	stalls.watch.Do(func() { go watchStalls() })
	path := LookPath(t, "redis-server")
	for {
		r := &Redis{Port: FreePort(t), Dir: tempDir(t)}
		r.Addr = "127.0.0.1:" + strconv.Itoa(r.Port)
		r.Socket = filepath.Join(r.Dir, "redis.sock")
		r.args = append([]string{
			"--port", strconv.Itoa(r.Port), "--bind", "127.0.0.1", "--unixsocket", r.Socket,
			"--dir", r.Dir, "--save", "", "--appendonly", "no", "--daemonize", "no",
			"--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0",
		}, config...)
		err := r.launch(t, path)
		if err == nil {
			return r
		}
		if !portTaken(err) {
			t.Fatal(err)
		}
	}
}

func (r *Redis) launch(t testing.TB, path string) error {
	r.Process = start(t, "redis-server", nil, path, r.args...)
	process := r.Process
	t.Cleanup(func() { process.stop(t, 0) })
	return r.awaitReady(func() error { return answers("tcp", r.Addr) })
}

// Restart starts the server again on the same port, after it was killed.
func (r *Redis) Restart(t testing.TB) {
	t.Helper()
	os.Remove(r.Socket)
	if err := r.launch(t, LookPath(t, "redis-server")); err != nil {
		t.Fatal(err)
	}
}

// URL is the address as the proxy's upstream directive takes it.
func (r *Redis) URL() string { return "redis://" + r.Addr }

// Dial connects to the server itself, past any proxy.
func (r *Redis) Dial(t testing.TB) *Conn {
	t.Helper()
	return Dial(t, "tcp", r.Addr)
}

// Do sends one command on a connection of its own and returns the reply's bytes.
func (r *Redis) Do(t testing.TB, args ...string) string {
	t.Helper()
	c := r.Dial(t)
	defer c.Close()
	return c.Do(t, args...)
}

// Info returns one field of INFO as a number.
func (r *Redis) Info(t testing.TB, section, field string) int64 {
	t.Helper()
	n, err := InfoField(r.Do(t, "INFO", section), field)
	if err != nil {
		t.Fatal(fmt.Errorf("INFO %s: %w", section, err))
	}
	return n
}
