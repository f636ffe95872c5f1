package locks

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

var guardScenes = []stage.Scene{
	{Name: "KS.GUARD runs a command for the owner alone", Run: guardForTheOwner},
	{Name: "KS.GUARD stops a holder whose lease ran out", Run: guardStopsStaleHolders},
	{Name: "KS.GUARD replies what the command replies", Run: guardReplies},
	{Name: "KS.GUARD refuses what it can't guard", Run: guardRefuses},
	{Name: "extensions don't stop guarded commands", Run: guardAmongExtensions},
}

func guardForTheOwner(t *testing.T, s *stage.Stage) {
	const name, key = "guard:1", "guard/value"
	holder := s.Client(t, 0)
	g := holder.Lock(name)
	for i := range s.Proxies { // any connection with the token
		c := s.Client(t, i)
		c.Expect("OK", "KS.GUARD", name, g.Token, "SET", key, fmt.Sprint(i))
		c.Expect(fmt.Sprint(i), "KS.GUARD", name, g.Token, "GET", key)
		c.ExpectRefusal("LOCKLOST ", "KS.GUARD", name, "somebody else's", "SET", key, "wrong")
		c.ExpectRefusal("LOCKLOST ", "KS.GUARD", "guard:free", g.Token, "SET", key, "wrong")
		c.Expect(fmt.Sprint(i), "GET", key)
	}
	w := s.Join(t, 1, name)
	holder.Unlock(name, g)
	w.Granted()
	holder.ExpectRefusal("LOCKLOST ", "KS.GUARD", name, g.Token, "DEL", key)
	w.Expect(int64(1), "KS.GUARD", name, w.Token, "DEL", key)
	w.Unlocks()
	w.ExpectRefusal("LOCKLOST ", "KS.GUARD", name, w.Token, "SET", key, "wrong")
	p := holder.Generate(name)
	w.Expect("OK", "KS.GUARD", name, p.Token, "SET", key, "by a generator")
	holder.Unlock(name, p)
	several, _ := mlock(t, holder, []string{name, "guard:2"})
	w.Expect("OK", "KS.GUARD", "guard:2", several, "SET", key, "by one of several locks")
	munlock(t, holder, 2, []string{name, "guard:2"}, several)
	holder.Expect(int64(1), "DEL", key)
}

// guardStopsStaleHolders: who was stopped past its lease believes to hold beside who was granted.
// The fence and KS.GUARD tell them apart.
func guardStopsStaleHolders(t *testing.T, s *stage.Stage) {
	const name, key = "guard:stale", "guard/stale"
	for i := range s.Proxies {
		stale := s.Client(t, i)
		g := stale.Lock(name, "EX", "60")
		stale.Expect(int64(1), "KS.GUARD", name, g.Token, "RPUSH", key, fmt.Sprint(g.Fence))
		w := s.Join(t, i+1, name)
		s.Client(t, i).Expect(int64(1), "KS.EXTEND", name, g.Token, "PX", "20") // it runs out
		next := w.Granted()
		if next.Fence <= g.Fence {
			t.Fatalf("%+v after %+v", next, g)
		}
		stale.ExpectRefusal("LOCKLOST ", "KS.GUARD", name, g.Token, "RPUSH", key, "stale")
		w.Expect(int64(2), "KS.GUARD", name, next.Token, "RPUSH", key, fmt.Sprint(next.Fence))
		stale.Expect(int64(0), "KS.EXTEND", name, g.Token, "PX", "1000")
		stale.Expect(int64(0), "KS.UNLOCK", name, g.Token)
		w.Expect(int64(2), "KS.GUARD", name, next.Token, "LLEN", key)
		w.Expect(int64(1), "DEL", key)
		w.Unlocks()
	}
}

// guardReplies compares with Redis itself, byte for byte, what a script would get wrong and more;
// all of it, RESP2 and RESP3, is in integration/guard.
func guardReplies(t *testing.T, s *stage.Stage) {
	const name = "guard:replies"
	g := s.Client(t, 0).Lock(name, "EX", "60")
	many := []string{"RPUSH", "KEY"}
	for i := range 9000 { // a script takes 8000 at most
		many = append(many, fmt.Sprint(i))
	}
	commands := [][]string{
		{"SET", "KEY", "9007199254740992"},
		{"INCR", "KEY"}, // 2^53 + 1
		{"HGETALL", "KEY"},
		{"DEL", "KEY"},
		{"HSET", "KEY", "field", "3.5"},
		{"HGETALL", "KEY"},
		{"HINCRBYFLOAT", "KEY", "field", "0.25"},
		{"HMGET", "KEY", "missing", "field", "missing"},
		{"DEL", "KEY"},
		{"ZADD", "KEY", "1.5", "a", "2", "b"},
		{"ZRANGE", "KEY", "0", "-1", "WITHSCORES"},
		{"ZSCORE", "KEY", "a"},
		{"DEL", "KEY"},
		many,
		{"LRANGE", "KEY", "8998", "-1"},
		{"INCR", "KEY"},
		{"DEL", "KEY"},
		{"GET", "KEY"},
		{"SET", "KEY"},
		{"NO-SUCH-COMMAND", "argument"},
		{"EVAL", "return {1, false, redis.status_reply('fine')}", "1", "KEY"},
	}
	with := func(command []string, key string) []string {
		args := slices.Clone(command)
		for i := range args {
			if args[i] == "KEY" {
				args[i] = key
			}
		}
		return args
	}
	for i := range s.Proxies {
		for _, proto := range []string{"2", "3"} {
			direct, c := s.Dial(t), s.Client(t, i)
			direct.Do(t, "HELLO", proto)
			c.Call("HELLO", proto)
			for _, command := range commands {
				want := direct.Do(t, with(command, "guard/direct"+proto)...)
				got := c.Do(t, append([]string{"KS.GUARD", name, g.Token}, with(command, "guard/guarded"+proto)...)...)
				if got != want {
					t.Errorf("RESP%s %.60q: guarded %.200q, direct %.200q", proto, command, got, want)
				}
			}
			direct.Close()
		}
	}
	s.Client(t, 0).Unlock(name, g)
}

func guardRefuses(t *testing.T, s *stage.Stage) {
	const name, key = "guard:refused", "guard/refused"
	c := s.Client(t, 0)
	g := c.Lock(name)
	for _, command := range strings.Fields(`select auth hello reset quit client monitor subscribe psubscribe ssubscribe
		unsubscribe punsubscribe sunsubscribe multi exec discard watch unwatch sync psync replconf shutdown ks.lock ks.guard`) {
		for _, arg := range []string{"1", ""} {
			args := []string{"KS.GUARD", name, g.Token, command}
			if arg != "" {
				args = append(args, arg)
			}
			c.ExpectRefusal("ERR KS.GUARD can't run '"+command+"'", args...)
		}
	}
	c.Expect("OK", "WATCH", key)
	c.ExpectRefusal("ERR KS.GUARD is not allowed while keys are watched", "KS.GUARD", name, g.Token, "SET", key, "wrong")
	c.Expect("OK", "UNWATCH")
	c.Expect(nil, "KS.GUARD", name, g.Token, "GET", key)
	c.ExpectRefusal("ERR wrong number of arguments for 'ks.guard' command", "KS.GUARD", name, g.Token)
	c.Unlock(name, g)
}

// guardAmongExtensions: whoever lengthens the lease writes to the key that is watched.
func guardAmongExtensions(t *testing.T, s *stage.Stage) {
	const name, key, writes = "guard:extended", "guard/extended", 100
	g := s.Client(t, 0).Lock(name, "EX", "60")
	stop := make(chan struct{})
	var all sync.WaitGroup
	for i := range 3 {
		c := s.Client(t, i)
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if reply, err := c.TryCall("KS.EXTEND", name, g.Token, "EX", fmt.Sprint(60+i%60)); reply != ":1\r\n" {
					t.Errorf("KS.EXTEND answers %q, %v", reply, err)
					return
				}
			}
		})
	}
	for i := range writes {
		s.Client(t, i).Expect(int64(i+1), "KS.GUARD", name, g.Token, "INCR", key)
	}
	close(stop)
	all.Wait()
	c := s.Client(t, 0)
	c.Unlock(name, g)
	c.Expect(int64(1), "DEL", key)
}
