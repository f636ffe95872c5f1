package clients

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// redisCLI runs the cases of redis-cli with a RESP version.
func redisCLI(protocol int) func(*testing.T, *server) {
	return func(t *testing.T, on *server) {
		program := harness.LookPath(t, "redis-cli")
		version, err := exec.CommandContext(t.Context(), program, "--version").Output()
		noError(t, err)
		on.named(strings.TrimSpace(string(version)))
		c := &cliCases{server: on, program: program, protocol: protocol, options: []string{"-h", "127.0.0.1", "-p", strconv.Itoa(on.port)}}
		if protocol == 3 {
			c.options = append(c.options, "-3")
		}
		on.reportAll(t, []testCase{
			{"setup", c.setup},
			{"values", c.values},
			{"pipeline", c.pipeline},
			{"multi", c.multi},
			{"multi-aborted", c.multiAborted},
			{"pubsub", c.pubsub},
			{"blocking", c.blocking},
			{"script", c.script},
			{"scan", c.scan},
			{"tracking", c.tracking},
			{"large", c.large},
			{"wrong-password", c.wrongPassword},
			{"monitor", c.monitor},
			{"replica", c.replica},
			{"killed", c.killed},
			{"restart", c.restarted},
			{"ks-lock", c.lock},
			{"ks-queue", c.queue},
			{"ks-memo", c.memo},
			{"ks-order", c.order},
			{"ks-restart", c.lockAfterRestart},
		})
	}
}

type cliCases struct {
	*server
	program  string
	protocol int
	options  []string // of every call
}

// cli runs redis-cli with args to its end and returns what it prints, without
// the last line end; what goes to stderr comes first.
func (c *cliCases) cli(t *testing.T, args ...string) string {
	t.Helper()
	return c.cliWith(t, nil, args...)
}

// cliWith is cli with something on standard input.
func (c *cliCases) cliWith(t *testing.T, input io.Reader, args ...string) string {
	t.Helper()
	var out, complaints bytes.Buffer
	cmd := exec.CommandContext(t.Context(), c.program, append(c.options[:len(c.options):len(c.options)], args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, &out, &complaints
	cmd.Run() // a reply that is an error is no failure here: the output tells
	return strings.TrimSuffix(complaints.String()+out.String(), "\n")
}

// A conversation is a redis-cli that reads commands from standard input, or
// that goes on printing by itself.
type conversation struct {
	input io.WriteCloser
	lines chan string // closed at the end of the output
}

func (c *cliCases) converse(t *testing.T, args ...string) *conversation {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), c.program, append(c.options[:len(c.options):len(c.options)], args...)...)
	input, output := pipes(t, cmd)
	noError(t, cmd.Start())
	talk := &conversation{input: input, lines: make(chan string, 1000)}
	go func() {
		for scan := bufio.NewScanner(output); scan.Scan(); {
			talk.lines <- scan.Text()
		}
		close(talk.lines)
	}()
	t.Cleanup(func() {
		input.Close()
		cmd.Process.Kill()
		for range talk.lines { // the rest
		}
		cmd.Wait()
	})
	return talk
}

// says types a line and expects lines in return.
func (talk *conversation) says(t *testing.T, line string, replies ...string) {
	t.Helper()
	fmt.Fprintln(talk.input, line)
	talk.hears(t, replies...)
}

// hears expects the next lines.
func (talk *conversation) hears(t *testing.T, wanted ...string) {
	t.Helper()
	for _, w := range wanted {
		equal(t, talk.next(t), w)
	}
}

func (talk *conversation) next(t *testing.T) string {
	t.Helper()
	select {
	case line, open := <-talk.lines:
		if !open {
			t.Fatal("redis-cli has ended")
		}
		return line
	case <-time.After(harness.Patience):
		t.Fatalf("redis-cli prints nothing for %v", harness.Patience)
		return ""
	}
}

func (c *cliCases) setup(t *testing.T) {
	equal(t, c.cli(t, "ping"), "PONG")
	equal(t, strings.Contains(c.cli(t, "-n", "1", "client", "info"), " db=1 "), true)
	equal(t, strings.Contains(c.cli(t, "info", "server"), "redis_version:"), true)
	equal(t, c.cli(t, "-r", "3", "-i", "0.001", "echo", "again"), "again\nagain\nagain")
	proto := regexp.MustCompile(`proto\s(\d)`).FindStringSubmatch(c.cli(t, "hello"))
	equal(t, proto, []string{proto[0], strconv.Itoa(c.protocol)})
}

func (c *cliCases) values(t *testing.T) {
	var everyByte strings.Builder
	for b := range 256 {
		everyByte.WriteByte(byte(b))
	}
	equal(t, c.cliWith(t, strings.NewReader(everyByte.String()), "-x", "set", "values:k"), "OK")
	equal(t, c.cli(t, "get", "values:k"), everyByte.String())
	equal(t, c.cli(t, "get", "values:none"), "")
	equal(t, c.cli(t, "hset", "values:hash", "a", "1", "b", ""), "2")
	equal(t, strings.Fields(c.cli(t, "hgetall", "values:hash")), []string{"a", "1", "b"})
	equal(t, c.cli(t, "--no-raw", "incr", "values:count"), "(integer) 1")
	equal(t, strings.TrimSpace(c.cli(t, "-e", "lpush", "values:hash", "x")), "WRONGTYPE Operation against a key holding the wrong kind of value")
	equal(t, strings.HasPrefix(c.cli(t, "nosuch"), "ERR unknown command 'nosuch'"), true)
}

// pipeline is mass insertion: redis-cli sends all while it reads.
func (c *cliCases) pipeline(t *testing.T) {
	var commands strings.Builder
	for i := range 20_000 {
		commands.WriteString(harness.Command("INCRBY", "pipeline:n", strconv.Itoa(i)))
	}
	out := c.cliWith(t, strings.NewReader(commands.String()), "--pipe")
	equal(t, strings.Contains(out, "errors: 0, replies: 20000"), true)
	equal(t, c.cli(t, "get", "pipeline:n"), strconv.Itoa(20_000*19_999/2))
}

func (c *cliCases) multi(t *testing.T) {
	out := c.cliWith(t, strings.NewReader("MULTI\nSET multi:k v\nGET multi:k\nEXEC\nMULTI\nSET multi:k w\nDISCARD\nGET multi:k\n"))
	equal(t, strings.Fields(out), []string{"OK", "QUEUED", "QUEUED", "OK", "v", "OK", "QUEUED", "OK", "v"})
	out = c.cliWith(t, strings.NewReader("MULTI\nNOSUCH\nEXEC\n"))
	equal(t, strings.Contains(out, "EXECABORT"), true)
}

func (c *cliCases) multiAborted(t *testing.T) {
	talk := c.converse(t)
	talk.says(t, "WATCH aborted:k", "OK")
	equal(t, c.cli(t, "set", "aborted:k", "theirs"), "OK")
	talk.says(t, "MULTI", "OK")
	talk.says(t, "SET aborted:k ours", "QUEUED")
	talk.says(t, "EXEC", "") // nil
	talk.says(t, "GET aborted:k", "theirs")
}

func (c *cliCases) pubsub(t *testing.T) {
	listener := c.converse(t, "subscribe", "pubsub:a", "pubsub:b")
	listener.hears(t, "subscribe", "pubsub:a", "1", "subscribe", "pubsub:b", "2")
	byPattern := c.converse(t, "psubscribe", "pubsub:*")
	byPattern.hears(t, "psubscribe", "pubsub:*", "1")
	for i := range 20 {
		equal(t, c.cli(t, "publish", "pubsub:b", strconv.Itoa(i)), "2")
		listener.hears(t, "message", "pubsub:b", strconv.Itoa(i))
		byPattern.hears(t, "pmessage", "pubsub:*", "pubsub:b", strconv.Itoa(i))
	}
}

func (c *cliCases) blocking(t *testing.T) {
	equal(t, c.cli(t, "blpop", "blocking:none", "0.01"), "")
	talk := c.converse(t, "brpop", "blocking:a", "blocking:b", "0")
	c.blocked(t)
	equal(t, c.cli(t, "lpush", "blocking:b", "v"), "1")
	talk.hears(t, "blocking:b", "v")
	read := background(func() (string, error) {
		return c.cli(t, "xread", "block", "0", "streams", "blocking:s", "$"), nil
	})
	c.blocked(t)
	equal(t, c.cli(t, "xadd", "blocking:s", "1-1", "f", "v"), "1-1")
	equal(t, strings.Fields(read.value(t)), []string{"blocking:s", "1-1", "f", "v"})
}

// blocked waits until a client is blocked inside Redis.
func (c *cliCases) blocked(t *testing.T) {
	t.Helper()
	eventually(t, "a client is blocked", func() bool { return c.redis.Info(t, "clients", "blocked_clients") > 0 })
}

func (c *cliCases) script(t *testing.T) {
	file := filepath.Join(t.TempDir(), "script.lua")
	noError(t, os.WriteFile(file, []byte("redis.call('SET', KEYS[1], ARGV[1]) return {KEYS[1], redis.call('GET', KEYS[1])}"), 0o600))
	equal(t, c.cli(t, "--eval", file, "script:k", ",", "v"), "script:k\nv")
	sha := c.cli(t, "script", "load", "return ARGV[1] * 2")
	equal(t, c.cli(t, "evalsha", sha, "0", "21"), "42")
	const code = "#!lua name=script\nredis.register_function('twice', function(keys, args) return args[1] * 2 end)"
	equal(t, c.cliWith(t, strings.NewReader(code), "-x", "function", "load", "replace"), "script")
	equal(t, c.cli(t, "fcall", "twice", "0", "21"), "42")
}

func (c *cliCases) scan(t *testing.T) {
	equal(t, c.cli(t, "-n", "2", "eval", "for i = 1, 5000 do redis.call('SET', 'scan:' .. i, i) end return 5000", "0"), "5000")
	keys := strings.Fields(c.cli(t, "-n", "2", "--scan", "--pattern", "scan:*"))
	seen := map[string]bool{}
	for _, key := range keys {
		seen[key] = true
	}
	equal(t, len(seen), 5000)
	equal(t, strings.Contains(c.cli(t, "-n", "2", "--bigkeys"), "Sampled 5000 keys"), true)
}

// tracking shows in RESP3 as pushes, which redis-cli prints if told to; with
// RESP2 it goes by redirection to a subscriber.
func (c *cliCases) tracking(t *testing.T) {
	if c.protocol == 3 {
		talk := c.converse(t, "--show-pushes", "yes")
		talk.says(t, "CLIENT TRACKING ON", "OK")
		talk.says(t, "GET tracking:k", "")
		equal(t, c.cli(t, "set", "tracking:k", "changed"), "OK")
		talk.says(t, "PING", "invalidate", "tracking:k", "PONG")
		return
	}
	listener := c.converse(t)
	fmt.Fprintln(listener.input, "CLIENT ID")
	id := listener.next(t)
	listener.says(t, "SUBSCRIBE __redis__:invalidate", "subscribe", "__redis__:invalidate", "1")
	talk := c.converse(t)
	talk.says(t, "CLIENT TRACKING ON REDIRECT "+id, "OK")
	talk.says(t, "GET tracking:k", "")
	equal(t, c.cli(t, "set", "tracking:k", "changed"), "OK")
	listener.hears(t, "message", "__redis__:invalidate", "tracking:k")
}

func (c *cliCases) large(t *testing.T) {
	value := make([]byte, 10<<20)
	rand.NewChaCha8([32]byte{}).Read(value)
	equal(t, c.cliWith(t, bytes.NewReader(value), "-x", "set", "large:k"), "OK")
	equal(t, c.cli(t, "strlen", "large:k"), strconv.Itoa(len(value)))
	equal(t, c.cli(t, "get", "large:k") == string(value), true)
	equal(t, c.cli(t, "del", "large:k"), "1")
}

func (c *cliCases) wrongPassword(t *testing.T) {
	equal(t, c.cli(t, "acl", "setuser", "cli", "on", ">right", "~*", "&*", "+@all"), "OK")
	login := func(password string) string {
		return c.cli(t, "--no-auth-warning", "--user", "cli", "--pass", password, "acl", "whoami")
	}
	equal(t, strings.Contains(login("wrong"), "WRONGPASS"), true)
	equal(t, login("right"), "cli")
}

func (c *cliCases) monitor(t *testing.T) {
	talk := c.converse(t, "monitor")
	talk.hears(t, "OK")
	for i := range 20 {
		key := fmt.Sprint("monitor:", i)
		equal(t, c.cli(t, "set", key, "v"), "OK")
		for !strings.Contains(talk.next(t), fmt.Sprintf(`"set" %q "v"`, key)) {
			continue // redis-cli's own HELLO, and what the proxy asks for itself
		}
	}
}

// replica fetches a snapshot the way a replica does.
func (c *cliCases) replica(t *testing.T) {
	equal(t, c.cli(t, "set", "replica:k", "a value to be found in the snapshot"), "OK")
	file := filepath.Join(t.TempDir(), "dump.rdb")
	out := c.cli(t, "--rdb", file)
	snapshot, err := os.ReadFile(file)
	if err != nil || !bytes.HasPrefix(snapshot, []byte("REDIS")) || !bytes.Contains(snapshot, []byte("replica:k")) {
		t.Fatalf("no snapshot (%v): %s", err, out)
	}
}

// killed: redis-cli reports the command that was lost and connects again.
func (c *cliCases) killed(t *testing.T) {
	talk := c.converse(t)
	fmt.Fprintln(talk.input, "CLIENT ID")
	first := talk.next(t)
	equal(t, c.cli(t, "client", "kill", "id", first), "1")
	fmt.Fprintln(talk.input, "CLIENT ID\nCLIENT ID")
	second := talk.next(t)
	equal(t, first != second, true)
	talk.says(t, "PING", "PONG")
}

func (c *cliCases) restarted(t *testing.T) {
	talk := c.converse(t)
	talk.says(t, "SET restart:k before", "OK")
	c.restart()
	eventually(t, "a new redis-cli gets an answer", func() bool { return c.cli(t, "ping") == "PONG" })
	talk.says(t, "PING\nGET restart:k", "") // PING is lost, and Redis came back empty
	talk.says(t, "SET restart:k after", "OK")
}

func (c *cliCases) lock(t *testing.T) {
	reply := strings.Fields(c.cli(t, "KS.LOCK", "lock", "PX", "60000"))
	equal(t, len(reply), 2)
	_, err := strconv.ParseUint(reply[1], 10, 64)
	noError(t, err)
	equal(t, c.cli(t, "--no-raw", "KS.LOCK", "lock", "NOWAIT"), "(nil)")
	equal(t, c.cli(t, "ks.lock", "lock", "wait", "50"), "")
	equal(t, c.cli(t, "KS.UNLOCK", "lock", "not the token"), "0")
	equal(t, c.cli(t, "KS.UNLOCK", "lock", reply[0]), "1")
	equal(t, c.cli(t, "KS.UNLOCK", "lock", reply[0]), "0")
	equal(t, strings.TrimSpace(c.cli(t, "KS.LOCK")), "ERR wrong number of arguments for 'ks.lock' command")
	equal(t, strings.TrimSpace(c.cli(t, "KS.LOCK", "lock", "PX")), "ERR syntax error")
}

func (c *cliCases) queue(t *testing.T) {
	held := strings.Fields(c.cli(t, "KS.LOCK", "queue"))
	equal(t, len(held), 2)
	var waiting []*conversation
	for i := range 3 {
		waiting = append(waiting, c.converse(t, "KS.LOCK", "queue", "PX", "60000"))
		c.queued(t, "queue", i+1)
	}
	for _, next := range waiting {
		equal(t, c.cli(t, "KS.UNLOCK", "queue", held[0]), "1")
		its := []string{next.next(t), next.next(t)}
		before, _ := strconv.ParseUint(held[1], 10, 64)
		fence, err := strconv.ParseUint(its[1], 10, 64)
		noError(t, err)
		equal(t, fence > before, true)
		held = its
	}
	equal(t, c.cli(t, "KS.UNLOCK", "queue", held[0]), "1")
}

// queued waits until n callers stand in line for name.
func (c *cliCases) queued(t *testing.T, name string, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d callers wait for %s", n, name), func() bool {
		return c.cli(t, "llen", name+"/lockwaiting") == strconv.Itoa(n)
	})
}

func (c *cliCases) memo(t *testing.T) {
	reply := strings.Fields(c.cli(t, "KS.MEMO", "memo"))
	equal(t, len(reply), 2)
	equal(t, reply[0], "generate")
	waiting := []*conversation{c.converse(t, "KS.MEMO", "memo"), c.converse(t, "KS.MEMO", "memo")}
	c.queued(t, "memo", 2)
	equal(t, c.cli(t, "KS.RESOLVE", "memo", reply[1], "the value", "PX", "60000"), "1")
	for _, talk := range waiting {
		talk.hears(t, "value", "the value")
	}
	equal(t, c.cli(t, "KS.MEMO", "memo"), "value\nthe value")
	equal(t, c.cli(t, "get", "memo"), "the value")
	equal(t, c.cli(t, "KS.RESOLVE", "memo", reply[1], "late"), "0")
}

// order: ours act in order with the commands around them, and not in MULTI.
func (c *cliCases) order(t *testing.T) {
	talk := c.converse(t, "-n", "3")
	talk.says(t, "SET order:k 1", "OK")
	fmt.Fprintln(talk.input, "KS.LOCK order NOWAIT")
	token := talk.next(t)
	talk.next(t) // the fence
	talk.says(t, "INCR order:k\nKS.LOCK order NOWAIT\nINCR order:k\nEXISTS order/lock", "2", "", "3", "1")
	talk.says(t, "MULTI", "OK")
	fmt.Fprintln(talk.input, "KS.UNLOCK order "+token)
	equal(t, strings.HasPrefix(talk.next(t), "ERR unknown command"), true)
	talk.hears(t, "")
	talk.says(t, "EXEC", "EXECABORT Transaction discarded because of previous errors.", "")
	talk.says(t, "KS.UNLOCK order "+token, "1")
	equal(t, strings.Contains(strings.ToUpper(c.cli(t, "ks.help")), "KS.LOCK"), true)
}

func (c *cliCases) lockAfterRestart(t *testing.T) {
	c.restart()
	var held []string
	eventually(t, "KS.LOCK works again", func() bool {
		held = strings.Fields(c.cli(t, "KS.LOCK", "restarted", "NOWAIT"))
		return len(held) == 2
	})
	talk := c.converse(t, "KS.LOCK", "restarted")
	c.queued(t, "restarted", 1)
	equal(t, c.cli(t, "KS.UNLOCK", "restarted", held[0]), "1")
	talk.next(t)
}
