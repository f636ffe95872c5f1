package integration

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// megabyte is the unit of what is kept in memory for a client.
const megabyte = 1 << 20

// dialPlain connects without a reader of its own: nothing is read but by the test.
func dialPlain(t *testing.T, p *harness.Proxy) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

func write(t *testing.T, w io.Writer, data string) {
	t.Helper()
	if _, err := io.WriteString(w, data); err != nil {
		t.Fatalf("write: %v", err)
	}
}

func discard(t *testing.T, r io.Reader, n int64) {
	t.Helper()
	if got, err := io.CopyN(io.Discard, r, n); err != nil {
		t.Fatalf("read %d of %d bytes: %v", got, n, err)
	}
}

// grows fails the test if what do does makes the proxy's memory grow by more
// than limit.
func grows(t *testing.T, p *harness.Proxy, limit int64, do func()) {
	t.Helper()
	before := p.Memory(t, "VmRSS")
	do()
	peak := p.Memory(t, "VmHWM")
	t.Logf("resident memory: %s before, %s at the peak", megabytes(before), megabytes(peak))
	if peak-before > limit {
		t.Errorf("memory grew by %s, want at most %s", megabytes(peak-before), megabytes(limit))
	}
}

func TestAHugeValuePassesThroughSmallBuffers(t *testing.T) {
	size := int64(64 * megabyte)
	if *large {
		size = 512 * megabyte
	}
	redis := harness.StartRedis(t)
	proxy := harness.StartProxy(t, redis)
	conn := dialPlain(t, proxy)
	grows(t, proxy, 24*megabyte, func() {
		write(t, conn, fmt.Sprintf("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n", size))
		chunk := strings.Repeat("x", megabyte)
		for range size / megabyte {
			write(t, conn, chunk)
		}
		write(t, conn, "\r\n")
		discard(t, conn, int64(len("+OK\r\n")))
		write(t, conn, "GET k\r\n")
		discard(t, conn, int64(len(fmt.Sprintf("$%d\r\n\r\n", size)))+size)
	})
	if got, want := redis.Do(t, "STRLEN", "k"), fmt.Sprintf(":%d\r\n", size); got != want {
		t.Errorf("STRLEN: %q, want %q", got, want)
	}
}

func TestAMillionRequestsMayBeWrittenBeforeTheFirstReplyIsRead(t *testing.T) {
	const n = 1_000_000
	redis := harness.StartRedis(t)
	proxy := harness.StartProxy(t, redis)
	conn := dialPlain(t, proxy)
	grows(t, proxy, 32*megabyte, func() {
		pings := strings.Repeat("PING\r\n", 10_000)
		for range n / 10_000 {
			write(t, conn, pings)
		}
		discard(t, conn, n*int64(len("+PONG\r\n")))
	})
}

func TestABarrierDoesNotStallAClientThatWritesAllBeforeItReads(t *testing.T) {
	redis := harness.StartRedis(t)
	proxy := harness.StartProxy(t, redis)
	redis.Do(t, "SET", "k", strings.Repeat("v", 100_000))
	help := proxy.Dial(t).Do(t, "KS.HELP")
	reply := int64(len("$100000\r\n\r\n") + 100_000)

	conn := dialPlain(t, proxy)
	gets := strings.Repeat("GET k\r\n", 100)
	grows(t, proxy, 96*megabyte, func() {
		for range 3 {
			write(t, conn, gets+"KS.HELP\r\n")
		}
		write(t, conn, strings.Repeat("PING\r\n", 200_000))
		discard(t, conn, 300*reply+3*int64(len(help))+200_000*int64(len("+PONG\r\n")))
	})
}

func TestBothDirectionsFlowAtOnce(t *testing.T) {
	const n, size = 200, 200_000
	redis := harness.StartRedis(t)
	conn := dialPlain(t, harness.StartProxy(t, redis))
	request := harness.Command("ECHO", strings.Repeat("e", size))
	written := make(chan error, 1)
	go func() {
		_, err := io.WriteString(conn, strings.Repeat(request, n))
		written <- err
	}()
	discard(t, conn, n*int64(size+len("$200000\r\n\r\n")))
	if err := <-written; err != nil {
		t.Fatal(err)
	}
}

// waiting returns how many wait in line for name.
func waiting(t *testing.T, redis *harness.Redis, name string) string {
	t.Helper()
	return redis.Do(t, "LLEN", name+"/lockwaiting")
}

// until waits for something to become true; it fails the test if that takes
// longer than patience.
func until(t *testing.T, what string, patience time.Duration, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
		time.Sleep(time.Millisecond) // between looks
	}
}

// held takes the lock on name on a connection of its own and returns the token.
func held(t *testing.T, p *harness.Proxy, name string) (token string) {
	t.Helper()
	reply := p.Dial(t).Do(t, "KS.LOCK", name, "EX", "600")
	lines := strings.Split(reply, "\r\n")
	if len(lines) < 4 || lines[0] != "*2" {
		t.Fatalf("KS.LOCK: %q", reply)
	}
	return lines[2]
}

func TestAWaiterThatHangsUpLeavesTheLine(t *testing.T) {
	redis := harness.StartRedis(t)
	eachVariant(t, func(t *testing.T, v variant) {
		proxy := v.startProxy(t, redis)
		for name, hangUp := range map[string]func(*net.TCPConn) error{
			"by FIN": (*net.TCPConn).CloseWrite,
			"by RST": func(c *net.TCPConn) error {
				if err := c.SetLinger(0); err != nil {
					return err
				}
				return c.Close()
			},
		} {
			for behind, more := range map[string]string{"": "", " behind unread input": strings.Repeat("PING\r\n", 30_000)} {
				t.Run(name+behind, func(t *testing.T) {
					lock := fmt.Sprintf("line-%d-%s", v.threads, strings.ReplaceAll(name+behind, " ", "-"))
					held(t, proxy, lock)
					conn := dialPlain(t, proxy)
					write(t, conn, "KS.LOCK "+lock+"\r\n"+more)
					until(t, "the waiter stands in line", harness.Patience, func() bool { return waiting(t, redis, lock) == ":1\r\n" })
					if err := hangUp(conn); err != nil {
						t.Fatal(err)
					}
					began := time.Now()
					until(t, "the waiter has left", harness.Patience, func() bool { return waiting(t, redis, lock) == ":0\r\n" })
					t.Logf("left after %v", time.Since(began))
				})
			}
		}
	})
}

func TestAnUnlockHandsTheLockOnInOrder(t *testing.T) {
	redis := harness.StartRedis(t)
	first, second := harness.StartProxy(t, redis), harness.StartProxy(t, redis)
	token := held(t, first, "n")
	waiters := []*harness.Conn{second.Dial(t), first.Dial(t), second.Dial(t)}
	for i, w := range waiters {
		w.Send(t, harness.Command("KS.LOCK", "n"))
		until(t, "the waiter stands in line", harness.Patience, func() bool {
			return waiting(t, redis, "n") == fmt.Sprintf(":%d\r\n", i+1)
		})
	}
	admin, fence := first.Dial(t), ""
	for i, w := range waiters {
		if got := admin.Do(t, "KS.UNLOCK", "n", token); got != ":1\r\n" {
			t.Fatalf("KS.UNLOCK: %q", got)
		}
		lines := strings.Split(w.Reply(t), "\r\n")
		if len(lines) != 5 || lines[0] != "*2" || lines[3] <= fence {
			t.Fatalf("waiter %d: %q after fence %q", i, lines, fence)
		}
		token, fence = lines[2], lines[3]
	}
	if got := admin.Do(t, "KS.UNLOCK", "n", token); got != ":1\r\n" {
		t.Fatalf("the last KS.UNLOCK: %q", got)
	}
	if got := redis.Do(t, "KEYS", "n*"); got != "*1\r\n$7\r\nn/fence\r\n" {
		t.Errorf("left over in Redis: %q", got)
	}
}

func TestAMemoIsGeneratedOnceForAllWhoWait(t *testing.T) {
	redis := harness.StartRedis(t)
	first, second := harness.StartProxy(t, redis), harness.StartProxy(t, redis)
	generator := first.Dial(t)
	lines := strings.Split(generator.Do(t, "KS.MEMO", "r"), "\r\n")
	if len(lines) != 6 || lines[2] != "generate" {
		t.Fatalf("the first caller: %q", lines)
	}
	waiters := []*harness.Conn{first.Dial(t), second.Dial(t), second.Dial(t)}
	for _, w := range waiters {
		w.Send(t, harness.Command("KS.MEMO", "r"))
	}
	until(t, "three wait", harness.Patience, func() bool { return waiting(t, redis, "r") == ":3\r\n" })
	if got := generator.Do(t, "KS.RESOLVE", "r", lines[4], "report", "EX", "60"); got != ":1\r\n" {
		t.Fatalf("KS.RESOLVE: %q", got)
	}
	for _, w := range waiters {
		w.Want(t, "*2\r\n$5\r\nvalue\r\n$6\r\nreport\r\n")
	}
}

func TestATerminatedProxyAnswersThoseWhoWaitAndFinishesReplies(t *testing.T) {
	redis := harness.StartRedis(t)
	proxy := harness.StartProxy(t, redis)
	held(t, proxy, "n")
	waiter, busy := proxy.Dial(t), proxy.Dial(t)
	waiter.Send(t, harness.Command("KS.LOCK", "n"))
	until(t, "the waiter stands in line", harness.Patience, func() bool { return waiting(t, redis, "n") == ":1\r\n" })
	busy.Send(t, harness.Command("BLPOP", "list", "0"))
	until(t, "BLPOP blocks", harness.Patience, func() bool { return redis.Info(t, "clients", "blocked_clients") == 1 })

	proxy.Signal(t, syscall.SIGTERM)
	waiter.Want(t, "-KSUNAVAILABLE proxy is shutting down\r\n")
	redis.Do(t, "RPUSH", "list", "v")
	busy.Want(t, "*2\r\n$4\r\nlist\r\n$1\r\nv\r\n")
	if end := busy.AwaitEnd(t); end != harness.FIN {
		t.Errorf("the connection ended by %v, want FIN", end)
	}
	if code := proxy.WaitExit(t, 5*time.Second); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if got := waiting(t, redis, "n"); got != ":0\r\n" {
		t.Errorf("still in line: %q", got)
	}
}

func TestClientsAreClosedWithTheirRedisAndServedByItsSuccessor(t *testing.T) {
	redis := harness.StartRedis(t)
	proxy := harness.StartProxy(t, redis)
	idle, waiter := proxy.Dial(t), proxy.Dial(t)
	idle.Send(t, "PING\r\n")
	idle.Want(t, "+PONG\r\n")
	held(t, proxy, "n")
	waiter.Send(t, harness.Command("KS.LOCK", "n"))
	until(t, "the waiter stands in line", harness.Patience, func() bool { return waiting(t, redis, "n") == ":1\r\n" })
	redis.Kill(t)
	redis.Restart(t)
	idle.AwaitEnd(t)
	waiter.AwaitEnd(t)
	until(t, "the proxy serves again", harness.Patience, func() bool {
		conn := proxy.Dial(t)
		conn.Send(t, harness.Command("KS.LOCK", "again", "NOWAIT"))
		reply, err := conn.ReplyWithin(harness.Patience)
		return err == nil && strings.HasPrefix(reply, "*2\r\n")
	})
}

func TestAnUnreachableRedisIsAClosedDoor(t *testing.T) {
	proxy := harness.StartProxyWith(t, harness.ProxyOptions{
		Upstream: fmt.Sprintf("redis://127.0.0.1:%d", harness.FreePort(t)), NoProbe: true,
	})
	conn, err := harness.TryDial(proxy.Addr)
	if errors.Is(err, syscall.ECONNRESET) {
		return // sooner than connect returned
	}
	if err != nil {
		t.Fatal(err)
	}
	if end := conn.AwaitEnd(t); end != harness.RST {
		t.Errorf("the connection ended by %v, want RST", end)
	}
}

func TestIdleClientsAreCheap(t *testing.T) {
	n := int64(2000)
	if *large {
		n = 4000
	}
	redis := harness.StartRedis(t)
	proxy := harness.StartProxy(t, redis)
	before := proxy.Memory(t, "VmRSS")
	for range n {
		conn := dialPlain(t, proxy)
		write(t, conn, "PING\r\n")
		discard(t, conn, int64(len("+PONG\r\n")))
	}
	each := (proxy.Memory(t, "VmRSS") - before) / n
	t.Logf("%d bytes per idle client, of %d", each, n)
	limit := int64(20 << 10)
	if harness.RaceEnabled {
		limit = 160 << 10 // its shadow memory
	}
	if each > limit {
		t.Errorf("%d bytes per idle client, want at most %d", each, limit)
	}
}
