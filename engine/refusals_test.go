package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// callerCommands are the rights that scripts need; the proxy's own user needs select as well.
var callerCommands = strings.Fields(`eval evalsha get set del pexpire pttl time hget hset hmget hdel hlen
	lrange lindex llen lrem rpush lpush publish pubsub|numsub exists`)

// snapshot is everything in the database but TTLs.
func (b *backend) snapshot() string {
	b.t.Helper()
	all := map[string]string{}
	keys, err := b.c.Keys(context.Background(), "*").Result()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, key := range keys {
		all[key] = b.c.Dump(context.Background(), key).Val()
	}
	var out strings.Builder
	for _, key := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&out, "%s=%q\n", key, all[key])
	}
	return out.String()
}

// playRefused plays sc as far as Redis lets it, and returns the error of the step it refused; what was
// refused must have changed nothing.
func playRefused(t *testing.T, b *backend, st *stage, acts []act) string {
	t.Helper()
	for _, a := range acts {
		before := b.snapshot()
		got := st.play(a.step)
		refusal, refused := strings.CutPrefix(got, "error ")
		if !refused {
			continue
		}
		if after := b.snapshot(); after != before {
			t.Errorf("%s: %s\nbut it wrote\n%s\nwhere there was\n%s", a.step, got, after, before)
		}
		return refusal
	}
	return ""
}

// restricted makes st act as a user with these rights only.
func (b *backend) restricted(st *stage, rules ...any) {
	b.t.Helper()
	b.do(append([]any{"ACL", "SETUSER", "caller", "reset", "on", ">pw", "-@all", "~x*"}, rules...)...)
	st.runs = b.session(0, "caller", "pw")
}

func allow(commands []string, without string) []any {
	rules := []any{"+select"}
	for _, c := range commands {
		if c != without {
			rules = append(rules, "+"+c)
		}
	}
	return rules
}

func TestScriptsNeedExactlyTheirCommandsAndWriteNothingWithoutOne(t *testing.T) {
	b := onRedis(t)
	t.Cleanup(func() { b.do("ACL", "DELUSER", "caller") })
	for _, without := range append([]string{""}, callerCommands...) {
		if without == "eval" || without == "time" {
			continue // needed after SCRIPT FLUSH only, and where the clock is Redis's own
		}
		t.Run("without_"+without, func(t *testing.T) {
			refused := 0
			for _, sc := range scenarios {
				b.do("FLUSHALL")
				st := newStage(t, b)
				b.restricted(st, append(allow(callerCommands, without), "&*")...)
				refusal := playRefused(t, b, st, sc.acts)
				st.close()
				if refusal == "" {
					continue
				}
				refused++
				if !strings.HasPrefix(refusal, "NOPERM ") {
					t.Fatalf("%s: %s", sc.name, refusal)
				}
			}
			if (refused == 0) != (without == "") {
				t.Errorf("%d scenarios were refused", refused)
			}
		})
	}
}

func TestScriptsWriteNothingWithoutAChannel(t *testing.T) {
	b := onRedis(t)
	t.Cleanup(func() { b.do("ACL", "DELUSER", "caller") })
	all := []string{"&ks/inbox:*", "&x/locknotif:*", "&x/locklost:*", "&x/notif:*"}
	for _, without := range all {
		refused := 0
		for _, sc := range scenarios {
			b.do("FLUSHALL")
			st := newStage(t, b)
			rules := append(allow(callerCommands, ""), "resetchannels")
			for _, channel := range all {
				if channel != without {
					rules = append(rules, channel)
				}
			}
			b.restricted(st, rules...)
			refusal := playRefused(t, b, st, sc.acts)
			st.close()
			if refusal != "" {
				refused++
				if !strings.HasPrefix(refusal, "NOPERM ") || strings.Contains(refusal, ", ") {
					t.Fatalf("%s: %s", sc.name, refusal)
				}
			}
		}
		if refused == 0 {
			t.Errorf("nothing was refused without %s", without)
		}
	}
}

func TestAKeyOfAnotherTypeIsRefusedAndNothingIsWritten(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		setUp := []string{"live B C", "ask a A:1 memo", "ask b B:1 memo", "ask c C:1", "ask d A:2"}
		steps := []string{
			"ask e A:3", "ask b B:1 memo again", "ask c C:1 again", "release A a", "resolve A a v", "leave B all b:1", "leave A all a:1",
			"reject A a no", "forget C", "extend A a 500", "leave B keep b:1",
		}
		for i := range 7 {
			for _, step := range steps {
				if !looksAt(step, i) {
					continue
				}
				b.do("FLUSHALL")
				st := newStage(t, b)
				for _, s := range setUp {
					st.play(s)
				}
				key := st.keys.ofMemo()[i]
				b.do("DEL", key)
				b.do("ZADD", key, 1, "odd")
				before := b.snapshot()
				if got := st.play(step); !strings.HasPrefix(got, "error WRONGTYPE ") {
					t.Errorf("%s with an odd %s: %s", step, key, got)
				}
				st.close()
				if after := b.snapshot(); after != before {
					t.Errorf("%s with an odd %s wrote\n%s\nwhere there was\n%s", step, key, after, before)
				}
			}
		}
	})
}

// looksAt reports whether a step looks at the ith of the keys.
func looksAt(step string, i int) bool {
	op, _, _ := strings.Cut(step, " ")
	memo := strings.HasSuffix(step, "memo") || strings.HasSuffix(step, "memo again")
	switch {
	case i == 4:
		return memo || op == "resolve" || op == "forget"
	case i >= 5:
		return memo || op == "resolve" || op == "reject" || op == "forget"
	}
	return true
}

// fill makes Redis refuse whatever needs memory.
func (b *backend) fill() {
	b.do("CONFIG", "SET", "maxmemory", 1)
	b.t.Cleanup(func() { b.do("CONFIG", "SET", "maxmemory", 0) })
}

func TestAFullRedisRefusesNewcomersCleanlyAndServesTheLine(t *testing.T) {
	b := onRedis(t)
	st := newStage(t, b)
	for _, s := range []string{"live B C", "ask a A:1 memo", "ask b B:1", "ask c C:1", "ask d C:2"} {
		st.play(s)
	}
	b.fill()
	for _, a := range []act{
		{"ask e A:3", "error OOM"},
		{"ask e A:3 memo", "error OOM"},
		{"resolve A a v", "error OOM"},
		{"reject A a no", "error OOM"},
		{"extend A a 60000", "1"},
		{"extend A a 30000", "1, ring B:1"},
		{"ask b B:1 again", "wait first"},
		{"forget A", "1, watch, owner b, lost a, ring B:1, ring C:1"},
		{"ask b B:1 again", "granted"},
		{"leave B all b:1", "1, watch, owner c, ring C:1, ring C:2"},
		{"ask c C:1 again", "granted"},
		{"leave C all d:2", "1"},
		{"release C c", "1"},
		{"ask e A:3", "error OOM"},
	} {
		before := b.snapshot()
		got := st.play(a.step)
		if !strings.HasPrefix(got, a.want) {
			t.Fatalf("%s: got %q, want %q", a.step, got, a.want)
		}
		if strings.HasPrefix(got, "error") && (strings.Contains(got, ", ") || b.snapshot() != before) {
			t.Errorf("%s was refused, but told or wrote something: %q", a.step, got)
		}
	}
	if got, want := st.state(), " [] {}"; got != want {
		t.Errorf("in the end %s, want %s", got, want)
	}
}

// A Redis that takes no writes refuses every script before it has told or written anything.
func TestARedisThatTakesNoWritesRefusesCleanly(t *testing.T) {
	b := onRedis(t)
	for _, how := range []struct {
		word       string
		begin, end []any
	}{
		{"READONLY", []any{"REPLICAOF", "127.0.0.1", "1"}, []any{"REPLICAOF", "NO", "ONE"}},
		{"NOREPLICAS", []any{"CONFIG", "SET", "min-replicas-to-write", "1"}, []any{"CONFIG", "SET", "min-replicas-to-write", "0"}},
	} {
		for _, state := range []struct{ before, refused []string }{
			{nil, []string{"ask e A:3", "ask e A:3 memo"}},
			{
				[]string{"ask a A:1 session", "ask b B:1", "observe C"},
				[]string{
					"ask e A:3", "ask e A:3 memo", "ask b B:1 again", "ask b C:1", "ask a B:2 session", "release A a", "release A a b:1",
					"release B a", "leave A all a:1", "leave B all b:1", "leave B keep b:1", "renew a A:1", "observe B",
				},
			},
			{
				[]string{"ask a A:1", "ask b A:2"},
				[]string{"extend A a 60000", "extend A a 20000", "release A a b:2", "release A a", "observe A"},
			},
			{
				[]string{"ask a A:1 memo", "ask b B:1 memo", "ask c C:1"},
				[]string{"resolve A a v", "resolve B a v 100", "reject A a no", "reject B a no 5000", "forget B", "leave A all a:1"},
			},
			{[]string{"ask a A:1", "ask b B:1", "release A a"}, []string{"ask b B:1 again", "leave B unclaimed b:1", "leave B all b:1"}},
			{[]string{"ask a A:1", "ask b B:1", "release A a", "expire lock"}, []string{"ask b B:1 again", "ask e A:3", "leave A all"}},
			{[]string{"ask a A:1", "ask b B:1", "expire lock"}, []string{"ask b B:1 again", "ask e A:3", "ask e A:3 nowait"}},
		} {
			b.do("FLUSHALL")
			st := newStage(t, b)
			st.live("A", "B", "C")
			for _, step := range state.before {
				st.play(step)
			}
			before := b.snapshot()
			t.Cleanup(func() { b.do(how.end...) })
			b.do(how.begin...)
			for _, step := range state.refused {
				if got := st.play(step); !strings.HasPrefix(got, "error "+how.word+" ") || strings.Contains(got, ", ") {
					t.Errorf("after %v, %s: %s", state.before, step, got)
				}
			}
			b.do(how.end...)
			if after := b.snapshot(); after != before {
				t.Errorf("after %v something was written: %s instead of %s", state.before, after, before)
			}
			st.close()
		}
	}
}

// So are confirmations, of which none may begin a lease.
func TestAConfirmationThatIsRefusedBeginsNoLease(t *testing.T) {
	b := onRedis(t)
	e := b.engine()
	s := &confirming{Session: b.session(0)}
	s.before = func() { b.do("CONFIG", "SET", "min-replicas-to-write", "1") }
	t.Cleanup(func() { b.do("CONFIG", "SET", "min-replicas-to-write", "0") })
	names := []string{"a", "b"}
	got := mlockAsync(t.Context(), e, s, names, Request{Lease: 600_000})
	b.eventually("the refusal", func() bool { return b.owner("a") != "" && s.asked.Load() })
	for _, name := range names {
		if left := b.do("PTTL", name+"/lock").(int64); left > e.LockTTL() {
			t.Errorf("the lease of %s has %d ms left", name, left)
		}
	}
	b.do("CONFIG", "SET", "min-replicas-to-write", "0")
	if got := wait(t, got); got.err == nil || !strings.HasPrefix(got.err.Error(), "NOREPLICAS ") {
		t.Errorf("%+v", got)
	}
	b.eventually("both are released", func() bool { return b.owner("a") == "" && b.owner("b") == "" })
}

func TestFencesRiseWhateverTheClockSays(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		st := newStage(t, b)
		grant := func(step string) int64 {
			t.Helper()
			if got := st.play(step); !strings.HasPrefix(got, "granted") {
				t.Fatalf("%s: %s", step, got)
			}
			n := st.fence()
			st.play("release A a")
			return n
		}
		if n := grant("ask a A:1"); n != 1_000_000_000 {
			t.Errorf("first fence %d is not the clock in µs", n)
		}
		if n := grant("ask a A:2"); n != 1_000_000_001 {
			t.Errorf("in the same µs: %d", n)
		}
		st.now -= 5000 // a new master whose clock is behind
		if n := grant("ask a A:3"); n != 1_000_000_002 {
			t.Errorf("with the clock set back: %d", n)
		}
		b.do("FLUSHALL")
		if n := grant("ask a A:4 seen=1000000002"); n != 1_000_000_003 {
			t.Errorf("with the data lost as well: %d", n)
		}
		// More digits than Lua's tostring keeps.
		b.do("HSET", st.keys.fence, "n", "1766222333444555")
		if n := grant("ask a A:5"); n != 1_766_222_333_444_556 {
			t.Errorf("sixteen digits: %d", n)
		}
	})
}

func TestAPoisonedFenceIsAnErrorNotADuplicate(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		for _, n := range []string{"9007199254740992", "many"} {
			st := newStage(t, b)
			b.do("HSET", st.keys.fence, "n", n)
			got := st.play("ask a A:1")
			st.close()
			if !strings.HasPrefix(got, "error ERR the fence of this lock") {
				t.Errorf("n %s: %s", n, got)
			}
		}
	})
}

func TestTheLongestLeaseIsWrittenExactly(t *testing.T) {
	b := onRedis(t) // miniredis counts in nanoseconds
	st := newStage(t, b)
	st.play("ask a A:1 px=9007199254740992")
	if ttl := b.do("PTTL", st.keys.lock).(int64); ttl < 9007199254740000 {
		t.Errorf("PTTL %d", ttl)
	}
	if ttl := b.do("PTTL", st.keys.fence).(int64); ttl < 9007199254740992 {
		t.Errorf("the fence is gone before the lease: %d", ttl)
	}
}

func TestALeaveOfManyKeepsTheOrderOfTheRest(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		st := newStage(t, b)
		st.play("ask a A:1")
		leave := "leave B all"
		var want []any
		for i := range 120 {
			token := fmt.Sprintf("t%d", i)
			st.play(fmt.Sprintf("ask %s B:%d", token, i))
			if i%3 == 0 {
				want = append(want, token)
			} else {
				leave += fmt.Sprintf(" %s:%d", token, i)
			}
		}
		if got := st.play(leave); got != "80" {
			t.Fatal(got)
		}
		if got := b.do("LRANGE", st.keys.queue, 0, -1); !slices.Equal(got.([]any), want) {
			t.Errorf("left in line: %v", got)
		}
		if n := b.do("HLEN", st.keys.waiting); n != int64(len(want)) {
			t.Errorf("%d places", n)
		}
	})
}

func TestSelectInAScriptDoesNotLeak(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		s := b.session(0)
		b.do("SET", "k", "zero")
		if _, err := valueScript.run(t.Context(), s, []string{"k", "c"}, []any{3, "", 0}); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Do(t.Context(), "GET", "k"); got != "zero" || err != nil {
			t.Errorf("after a script that selected 3: %v, %v", got, err)
		}
	})
}

func TestRightsMissingInAScriptReadLikeThoseMissingOutside(t *testing.T) {
	got := asRedisError("ERR The user executing the script can't run this command or subcommand")
	if want := "NOPERM The user executing the script can't run this command or subcommand"; got.Error() != want {
		t.Errorf("got %q", got)
	}
	if got := asRedisError("WRONGTYPE Operation"); got != "WRONGTYPE Operation" {
		t.Errorf("got %q", got)
	}
	var err error = got
	if errors.Is(err, ErrNotGranted) {
		t.Error("is ErrNotGranted")
	}
}
