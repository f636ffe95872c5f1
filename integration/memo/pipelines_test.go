package memo

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/process"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// one is a command at random, the replies of which depend on nothing but those before.
func one(random *rand.Rand) []string {
	name := fmt.Sprintf("pipe:%d", random.IntN(6))
	token := "of " + name
	switch random.IntN(24) {
	case 0:
		return []string{"KS.RESOLVE", name, token, "value " + strconv.Itoa(random.IntN(1000))}
	case 1:
		return []string{"KS.RESOLVE", name, token, strings.Repeat("large\r\n", random.IntN(40_000))}
	case 2:
		return []string{"KS.REJECT", name, token, "no", "EX", "100"}
	case 3:
		return []string{"KS.FORGET", name}
	case 4:
		return []string{"SET", name, ""}
	case 5:
		return []string{"DEL", name}
	case 6:
		return []string{"GET", name}
	case 7:
		return []string{"LPUSH", name, "of another type"}
	case 8:
		return []string{"KS.MEMO", "pipe/lock:1"} // a name that there may not be
	case 9:
		return []string{"KS.MEMO", name, "PX", "none"}
	case 10:
		return [][]string{{"MULTI"}, {"EXEC"}, {"DISCARD"}, {"KS.UNLOCK", name, token}}[random.IntN(4)]
	}
	return []string{"ks.memo", name, "NOWAIT", "TOKEN", token, "EX", "1000"}
}

// Commands in one go are answered as one by one, wherever the network cuts them.
func TestPipelinesAreAnsweredAsSingleCommandsAre(t *testing.T) {
	t.Parallel()
	s := stage.Setup{}.Start(t)
	for _, protocol := range []string{"2", "3"} {
		t.Run("RESP"+protocol, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(5, uint64(protocol[0])))
			connect := func(db string) *harness.Conn {
				c := s.Proxies[0].Dial(t)
				c.Do(t, "HELLO", protocol)
				c.Asks(t, "+OK\r\n", "SELECT", db)
				return c
			}
			single, piped := connect("1"+protocol), connect(protocol)
			for range 150 {
				var all strings.Builder
				var commands [][]string
				var want []string
				for range 1 + random.IntN(60) {
					commands = append(commands, one(random))
				}
				commands = append(commands, []string{"EXEC"}, []string{"PING"})
				for _, args := range commands {
					all.WriteString(harness.Command(args...))
					want = append(want, single.Do(t, args...))
				}
				for p := all.String(); len(p) > 0; {
					n := len(p)
					if random.IntN(3) == 0 {
						n = min(n, 1+random.IntN(400))
					}
					piped.Send(t, p[:n])
					p = p[n:]
				}
				for i, args := range commands {
					if got := piped.Reply(t); got != want[i] {
						t.Fatalf("%.100q answers %.200q in a pipeline, %.200q alone", args, got, want[i])
					}
				}
			}
		})
	}
}

// Redis reads the questions of many hits at once, as it reads pipelined GETs; and where there is nothing to be found,
// little more is asked than by single commands.
func TestPipelinedHitsAreLookedUpTogether(t *testing.T) {
	t.Parallel()
	s := stage.Setup{}.Start(t)
	const n = 248 // 8, 16, 32, 64 and 128
	gets := func() int64 { return process.ParseCalls(s.Redis.Do(t, "INFO", "commandstats"))["get"] }
	reads := func() int64 { return s.Redis.Info(t, "stats", "total_reads_processed") }
	c := s.Proxies[0].Dial(t)
	// ask asks n times, so many at once, and returns what that costs.
	ask := func(atOnce int, what string, args ...string) (read, got int64) {
		r, g := reads(), gets()
		for range n / atOnce {
			c.Send(t, strings.Repeat(harness.Command(args...), atOnce))
			for range atOnce {
				if got := c.Reply(t); !strings.Contains(got, what) {
					t.Fatalf("%q answers %q", args, got)
				}
			}
		}
		return reads() - r, gets() - g
	}
	s.Must(t, "SET", "hit", "found")
	if read, got := ask(n, "found", "KS.MEMO", "hit"); got != n || read > n/4 {
		t.Errorf("%d hits cost %d GET in %d reads", n, got, read)
	}
	miss := []string{"KS.MEMO", "miss", "TOKEN", "x", "EX", "1000"}
	_, single := ask(1, "generate", miss...)
	if _, piped := ask(n, "generate", miss...); piped > single+2*n {
		t.Errorf("%d misses cost %d GET, one by one %d", n, piped, single)
	}
}

// Redis drops who is not authenticated and sends something large, but answers what was sent before.
func TestAPipelineBeforeAuthenticationIsAnsweredUpToWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	redis := harness.StartRedis(t)
	redis.Do(t, "CONFIG", "SET", "requirepass", "secret")
	upstream := strings.Replace(redis.URL(), "redis://", "redis://:secret@", 1)
	p := harness.StartProxyWith(t, harness.ProxyOptions{Upstream: upstream, NoProbe: true})
	known := p.Dial(t)
	known.Asks(t, "+OK\r\n", "AUTH", "secret")
	known.Asks(t, ":0\r\n", "KS.FORGET", "small") // the proxy serves
	c := p.Dial(t)
	// What is read at first, 16 KiB, ends in the small one; the next read, with more room, has the large one whole.
	filler := harness.Command("ECHO", strings.Repeat("x", 16<<10-34))
	c.Send(t, filler+harness.Command("KS.MEMO", "small")+harness.Command("KS.MEMO", strings.Repeat("x", 20<<10)))
	end := c.AwaitEnd(t)
	got, _ := c.Received()
	reply := string(got)
	if strings.Count(reply, "-NOAUTH ") != 2 || !strings.HasSuffix(reply, "-ERR Protocol error: unauthenticated bulk length\r\n") || end == harness.Open {
		t.Errorf("answered %q, then %v", reply, end)
	}
}
