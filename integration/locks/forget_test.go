package locks

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// onOneAndThree plays scenes in front of one proxy, and of three.
func onOneAndThree(t *testing.T, scenes []stage.Scene) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("on %d", n), func(t *testing.T) {
			stage.Setup{Proxies: n, Args: sessions.Args}.Play(t, scenes)
		})
	}
}

func TestForget(t *testing.T) {
	onOneAndThree(t, []stage.Scene{
		{Name: "removes what is cached", Run: forgetsWhatIsCached},
		{Name: "takes the promise from a generator and tells it once", Run: forgetRevokes},
		{Name: "leaves locks and strangers' promises alone", Run: forgetLeavesLocks},
		{Name: "no value is older than what was forgotten", Run: nothingOldAfterForget},
	})
}

func forgetsWhatIsCached(t *testing.T, s *stage.Stage) {
	const name = "forget:cached"
	for i := range s.Proxies {
		c, other := s.Client(t, i), s.Client(t, (i+1)%len(s.Proxies))
		c.Expect(int64(0), "KS.FORGET", name)
		c.Expect(int64(1), "KS.RESOLVE", name, c.Generate(name).Token, "v")
		other.Expect(int64(1), "KS.FORGET", name)
		c.Expect(nil, "GET", name)
		c.Expect(int64(1), "KS.REJECT", name, c.Generate(name).Token, "no", "EX", "100")
		c.ExpectRefusal("MEMOERR no", "KS.MEMO", name)
		other.Expect(int64(1), "KS.FORGET", name)
		other.Expect(int64(0), "KS.FORGET", name)
		c.Expect(int64(1), "KS.RESOLVE", name, c.Generate(name).Token, "")
		c.Expect(int64(1), "KS.FORGET", name) // an empty value is one
		c.Expect(int64(1), "KS.RESOLVE", name, c.Generate(name).Token, "v")
		c.Expect("OK", "SELECT", "1")
		c.Expect(int64(0), "KS.FORGET", name)
		stage.WantValue(t, other.Call("KS.MEMO", name), "v")
		other.Expect(int64(1), "KS.FORGET", name)
	}
}

func forgetRevokes(t *testing.T, s *stage.Stage) {
	ways := []struct {
		hold  []string
		resp3 bool
	}{{hold: []string{"EX", "30"}}, {hold: []string{"SESSION"}}, {hold: []string{"SESSION"}, resp3: true}}
	for round, way := range ways {
		for by := range s.Proxies {
			name := fmt.Sprintf("forget:revoked%d-%d", round, by)
			channel := stage.KeyOf(name, "locklost")
			listener := s.Dial(t)
			listener.Do(t, "SUBSCRIBE", channel)
			generator := s.Client(t, 0)
			if way.resp3 {
				generator.Call("HELLO", "3")
			}
			g := generator.Generate(name, way.hold...)
			watcher := s.Client(t, by)
			watcher.Ask("KS.WAIT", name, "0")
			stage.Eventually(t, "watched", func() bool { return s.Try(t, "HEXISTS", stage.KeyOf(name, "fence"), "w") == int64(1) })
			next := s.JoinMemo(t, (by+1)%len(s.Proxies), name)
			last := s.JoinMemo(t, by, name)

			began := time.Now()
			s.Client(t, by).Expect(int64(1), "KS.FORGET", name)
			if got := watcher.Next(); got != int64(1) {
				t.Fatalf("KS.WAIT answers %#v", got)
			}
			next.Granted()
			stage.Took(t, "the next was asked to generate", began, 0, 2*time.Second)
			last.Silent("the next one generates")
			if way.resp3 {
				if push := generator.Reply(t); push != pushOf("ks.lost", name, g.Token) {
					t.Fatalf("the push is %q", push)
				}
			}
			generator.Expect(int64(0), "KS.RESOLVE", name, g.Token, "old")
			generator.Expect(int64(0), "KS.REJECT", name, g.Token, "old")
			generator.Expect(int64(0), "KS.EXTEND", name, g.Token, "EX", "9")
			generator.Expect(int64(0), "KS.UNLOCK", name, g.Token)
			generator.ExpectRefusal("LOCKLOST", "KS.GUARD", name, g.Token, "SET", "forget:written", "old")
			awaitRenewal(t, s, 0)
			next.Expect(int64(1), "KS.RESOLVE", name, next.Token, "new", "EX", "60")
			stage.WantValue(t, last.Next(), "new")
			generator.Expect("PONG", "PING") // no second push
			s.Must(t, "PUBLISH", channel, "end")
			for _, want := range []string{g.Token, "end"} {
				if news := stage.Parse(t, listener.Reply(t)); !slices.Equal(news.([]any), []any{"message", channel, want}) {
					t.Fatalf("the news is %#v, want %s", news, want)
				}
			}
			last.Expect(int64(1), "KS.FORGET", name)
		}
	}
}

// awaitRenewal returns when everything that connections of a proxy hold has been renewed.
func awaitRenewal(t testing.TB, s *stage.Stage, proxy int) {
	t.Helper()
	name := fmt.Sprintf("renewal:%d", time.Now().UnixNano())
	c := s.Client(t, proxy)
	defer c.Close()
	c.Lock(name, "SESSION")
	least := sessionTTL.Milliseconds()
	stage.Eventually(t, "renewed", func() bool {
		left, _ := s.Try(t, "PTTL", stage.KeyOf(name, "lock")).(int64)
		if left > least {
			return true
		}
		least = left
		return false
	})
}

func forgetLeavesLocks(t *testing.T, s *stage.Stage) {
	const name = "forget:lock"
	last := len(s.Proxies) - 1
	holder, c := s.Client(t, 0), s.Client(t, last)
	for _, options := range [][]string{{"EX", "30"}, {"SESSION"}} {
		g := holder.Lock(name, options...)
		waiters := []*stage.Waiter{s.Join(t, last, name), s.Join(t, 0, name)}
		s.Must(t, "SET", name, "v")
		c.Expect(int64(1), "KS.FORGET", name)
		c.Expect(int64(0), "KS.FORGET", name)
		for _, w := range waiters {
			w.Silent("the lock is held")
		}
		awaitRenewal(t, s, 0)
		holder.Unlock(name, g)
		stage.InTurn(t, waiters, 0)
	}

	// redis-memolock's promise is a token that we know nothing of.
	s.Must(t, "SET", stage.KeyOf(name, "lock"), "theirs", "PX", "60000")
	w := s.JoinMemo(t, 0, name)
	c.Expect(int64(0), "KS.FORGET", name)
	w.Silent("a stranger generates")
	s.Must(t, "SET", name, "their value")
	s.Must(t, "PUBLISH", stage.KeyOf(name, "notif"), "their value")
	stage.WantValue(t, w.Next(), "their value")
	s.AwaitLine(t, name, 0)
	s.Must(t, "DEL", name, stage.KeyOf(name, "lock"))
}

// nothingOldAfterForget changes a source and forgets what was made from it, while callers on all proxies ask
// and generate. A value that somebody asked for after that must be of the new source, or a newer one.
func nothingOldAfterForget(t *testing.T, s *stage.Stage) {
	const name, source, changes = "forget:raced", "forget:source", 150
	s.Must(t, "SET", source, "0")
	done := make(chan struct{})
	var callers sync.WaitGroup
	for i := range 2 * len(s.Proxies) {
		c := s.Client(t, i%len(s.Proxies))
		callers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				if err := askFresh(c, name, source, n); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range changes {
		c := s.Client(t, i%len(s.Proxies))
		version := c.Call("INCR", source)
		c.Call("KS.FORGET", name)
		c.Call("SET", source+":known", fmt.Sprint(version))
		if err := askFresh(c, name, source, i); err != nil {
			t.Errorf("change %v: %v", version, err)
		}
		c.Close()
	}
	close(done)
	callers.Wait()
	s.Client(t, 0).Call("KS.FORGET", name)
	s.Must(t, "DEL", source, source+":known")
}

// askFresh notes which version of the source must be known by now, asks, and generates if it is its turn.
func askFresh(c *stage.Client, name, source string, n int) error {
	known, _ := c.Call("GET", source+":known").(string)
	least, _ := strconv.Atoi(known)
	pair, ok := c.Call("KS.MEMO", name, "EX", "30").([]any)
	if !ok {
		return fmt.Errorf("KS.MEMO answers %#v", pair)
	}
	if pair[0] == "generate" {
		made, _ := c.Call("GET", source).(string)
		ttl := []string{"1", "20", "60000"}[n%3]
		c.Call("KS.RESOLVE", name, pair[1].(string), made, "PX", ttl)
		return nil
	}
	if got, _ := strconv.Atoi(pair[1].(string)); got < least {
		return fmt.Errorf("the value is of version %d, %d was known before it was asked for", got, least)
	}
	return nil
}

func TestForgetWhileTheGeneratorsProxyIsFrozenOrKilled(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Proxies: 3, Args: []string{"--ks-lock-ttl", "20000"}}.Start(t)
	const name = "forget:frozen"
	channel := stage.KeyOf(name, "locklost")
	listener := s.Dial(t)
	listener.Do(t, "SUBSCRIBE", channel)
	told := func(token string) {
		t.Helper()
		if news := stage.Parse(t, listener.Reply(t)); !slices.Equal(news.([]any), []any{"message", channel, token}) {
			t.Fatalf("the news is %#v, want %s", news, token)
		}
	}
	generator := s.Client(t, 0)
	generator.Call("HELLO", "3")
	g := generator.Generate(name, "SESSION")
	w := s.JoinMemo(t, 1, name)
	thaw := s.FreezeProxy(t, 0)
	generator.Ask("KS.RESOLVE", name, g.Token, "old") // under way
	s.Client(t, 2).Expect(int64(1), "KS.FORGET", name)
	w.Granted()
	told(g.Token)
	thaw()
	replies := []string{generator.Reply(t), generator.Reply(t)}
	slices.Sort(replies)
	if want := []string{":0\r\n", pushOf("ks.lost", name, g.Token)}; !slices.Equal(replies, want) {
		t.Fatalf("a frozen generator is told %q, want %q", replies, want)
	}
	w.Expect(int64(1), "KS.RESOLVE", name, w.Token, "new", "EX", "60")
	stage.WantValue(t, generator.Call("KS.MEMO", name), "new")

	generator.Expect(int64(1), "KS.FORGET", name)
	g = generator.Generate(name, "SESSION")
	w = s.JoinMemo(t, 1, name)
	s.Proxies[0].Signal(t, syscall.SIGKILL)
	began := time.Now()
	s.Client(t, 2).Expect(int64(1), "KS.FORGET", name)
	w.Granted()
	stage.Took(t, "the promise of a dead proxy was handed on", began, 0, harness.Patience/2)
	told(g.Token)
	w.Expect(int64(0), "KS.RESOLVE", name, g.Token, "old")
	w.Expect(int64(1), "KS.RESOLVE", name, w.Token, "new", "EX", "60")
	s.Must(t, "PUBLISH", channel, "end")
	told("end")
}
