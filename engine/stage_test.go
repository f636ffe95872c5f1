package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// stage plays scripts as if several proxies (instances A, B, ...) asked them, with a clock of its own, on
// one name. Leases don't run out by themselves unless a step says so.
type stage struct {
	b    *backend
	t    *testing.T
	now  int64 // ms
	name string
	keys keys

	others []string // names that other stages play

	subs map[string]*redis.PubSub // live instances
	all  *redis.PubSub            // PSUBSCRIBE *: hears all, and is the stranger that makes PUBLISH's count lie
	runs doer                     // who asks; nil: the test's own client

	broken map[*script]*script // played instead, to see that a test notices
	unsent string              // what KS.GUARD does not send, for the same reason
}

func newStage(t *testing.T, b *backend) *stage {
	t.Helper()
	return newStageOn(t, b, "x:n")
}

func newStageOn(t *testing.T, b *backend, name string) *stage {
	t.Helper()
	k, err := keysOf(name, "first")
	if err != nil {
		t.Fatal(err)
	}
	st := &stage{b: b, t: t, now: 1_000_000, name: name, keys: k, subs: map[string]*redis.PubSub{}}
	st.all = b.c.PSubscribe(t.Context(), "*")
	st.receive(st.all)
	t.Cleanup(st.close)
	return st
}

// close ends the subscriptions, and waits until Redis knows.
func (st *stage) close() {
	for name := range st.subs {
		st.dead(name)
	}
	_ = st.all.Close()
}

func (st *stage) receive(ps *redis.PubSub) any {
	st.t.Helper()
	got, err := ps.ReceiveTimeout(st.t.Context(), 5*time.Second)
	if err != nil {
		st.t.Fatal(err)
	}
	return got
}

// live subscribes instances, or, by the name KeySmith, its locknotif channel.
func (st *stage) live(names ...string) {
	for _, name := range names {
		ps := st.b.c.Subscribe(st.t.Context(), st.channel(name))
		st.receive(ps)
		st.subs[name] = ps
	}
}

func (st *stage) channel(name string) string {
	if name == "KeySmith" {
		return st.keys.locknotif
	}
	return inboxPrefix + name
}

func (st *stage) dead(name string) {
	channel := st.channel(name)
	st.subs[name].Close()
	delete(st.subs, name)
	st.b.eventually(name+" unsubscribed", func() bool {
		return st.b.do("PUBSUB", "NUMSUB", channel).([]any)[1] == int64(0)
	})
}

// heard returns what was published about its name since it was last called.
func (st *stage) heard() []string {
	st.t.Helper()
	st.b.do("PUBLISH", "sentinel", st.name)
	var out []string
	for {
		m, ok := st.receive(st.all).(*redis.Message)
		if !ok || m.Channel == "sentinel" && m.Payload == st.name {
			return out
		}
		instance, inbox := strings.CutPrefix(m.Channel, inboxPrefix)
		switch {
		case m.Channel == st.keys.locknotif:
			out = append(out, "owner "+m.Payload)
		case m.Channel == st.keys.notif:
			out = append(out, "notif "+m.Payload)
		case m.Channel == st.keys.locklost:
			out = append(out, "lost "+m.Payload)
		case inbox:
			bell, err := parseBell(m.Payload)
			if err == nil && bell.name != st.name && slices.Contains(st.others, bell.name) {
				continue
			}
			if err != nil || bell.name != st.name || bell.db != 0 {
				st.t.Errorf("bell %q: %+v, %v", m.Payload, bell, err)
			}
			switch bell.kind {
			case "v":
				out = append(out, strings.TrimSpace("ready "+instance+" "+bell.value))
			case "e":
				out = append(out, "rejected "+instance+" "+bell.value)
			case "w":
				out = append(out, "ended for "+instance)
			case "d":
				out = append(out, fmt.Sprintf("ended %s:%d", instance, bell.seq))
			default:
				out = append(out, fmt.Sprintf("ring %s:%d", instance, bell.seq))
			}
		}
	}
}

func (st *stage) run(s *script, keys []string, instance string, rest ...any) (any, error) {
	d := st.runs
	if d == nil {
		d = ownConn{st.b.c}
	}
	if other := st.broken[s]; other != nil {
		s = other
	}
	args := append([]any{st.now, 0, instance, st.name, st.keys.locknotif, 30000}, rest...)
	return s.run(context.Background(), d, keys, args)
}

// ask: ask <token> <instance>:<seq> [memo] [again] [nowait] [session] [px=ms] [seen=fence] [since=fence]
func (st *stage) ask(args []string) (any, error) {
	instance, seq, _ := strings.Cut(args[1], ":")
	s, keys, first, nowait, lease, seen, own, since := askLockScript, st.keys.ofLine(), 1, 0, "30000", "0", "l addr name", ""
	for _, opt := range args[2:] {
		name, value, _ := strings.Cut(opt, "=")
		switch name {
		case "memo":
			s, keys = askMemoScript, st.keys.ofMemo()
		case "again":
			first = 0
		case "nowait":
			nowait = 1
		case "px":
			lease = value
		case "seen":
			seen = value
		case "session":
			own = "s addr name"
		case "since":
			since = value
		}
	}
	return st.run(s, keys, instance, args[0], seq, first, lease, nowait, seen, own, since)
}

// release: release <instance> <token> [next:seq [px=ms] [session] [seen=fence]]
func (st *stage) release(args []string) (any, error) {
	next, seq, lease, seen, own := "", "0", "30000", "0", "l addr name"
	for i, opt := range args[2:] {
		name, value, _ := strings.Cut(opt, "=")
		switch {
		case i == 0:
			next, seq, _ = strings.Cut(opt, ":")
		case name == "px":
			lease = value
		case name == "session":
			own = "s addr name"
		case name == "seen":
			seen = value
		}
	}
	return st.run(releaseScript, st.keys.ofLine(), args[0], args[1], next, seq, lease, own, seen)
}

// leave: leave <instance> all|unclaimed|keep|over <token>:<seq> ...
func (st *stage) leave(args []string) (any, error) {
	rest := []any{asFlag(args[1] != "unclaimed")}
	for _, pair := range args[2:] {
		token, seq, _ := strings.Cut(pair, ":")
		flag := map[string]int{"keep": 1, "over": 2}[args[1]]
		rest = append(rest, token, seq, flag)
	}
	return st.run(leaveScript, st.keys.ofLine(), args[0], rest...)
}

// resolve: resolve <instance> <token> <value> [ttl [stale]]
func (st *stage) resolve(args []string) (any, error) {
	ttl, stale := "", ""
	if len(args) > 3 {
		ttl = args[3]
	}
	if len(args) > 4 {
		stale = args[4]
	}
	return st.run(resolveScript, st.keys.ofMemo(), args[0], args[1], args[2], ttl, st.keys.notif, notifMost, briefTTL, briefMost, stale)
}

// reject: reject <instance> <token> <message> [ttl]
func (st *stage) reject(args []string) (any, error) {
	ttl := ""
	if len(args) > 3 {
		ttl = args[3]
	}
	return st.run(rejectScript, st.keys.ofMemo(), args[0], args[1], args[2], ttl, rejectOnce)
}

// lookAtCopy is what the proxy that resolved does shortly before the TTL of the value ends.
func (st *stage) lookAtCopy() error {
	s := valueScript
	if other := st.broken[s]; other != nil {
		s = other
	}
	_, err := s.run(context.Background(), ownConn{st.b.c}, []string{st.keys.value, st.keys.stale}, []any{0, st.now, 1})
	return err
}

func (st *stage) forget(instance string) (any, error) {
	return st.run(forgetScript, st.keys.ofMemo(), instance, st.keys.locklost)
}

// play runs one step and says what came of it: the reply, the waiters of the asking instance that the
// reply wants rung ("own A:1") or the claim it wants watched, then what was published.
func (st *stage) play(step string) string {
	st.t.Helper()
	f := strings.Fields(step)
	var reply any
	var err error
	instance := f[len(f)-1]
	if len(f) > 1 {
		instance = f[1]
	}
	switch f[0] {
	case "ask":
		instance, _, _ = strings.Cut(f[2], ":")
		reply, err = st.ask(f[1:])
	case "release":
		reply, err = st.release(f[1:])
	case "leave":
		reply, err = st.leave(f[1:])
	case "resolve":
		reply, err = st.resolve(f[1:])
	case "reject":
		reply, err = st.reject(f[1:])
	case "look": // after the stale copy
		err = st.lookAtCopy()
	case "forget":
		reply, err = st.forget(f[1])
	case "extend":
		reply, err = st.run(extendScript, st.keys.ofLine(), f[1], f[2], f[3])
	case "renew":
		instance, seq, _ := strings.Cut(f[2], ":")
		reply, err = st.run(renewScript, st.keys.ofLine(), instance, f[1], seq, 30000)
	case "status":
		reply, err = st.run(statusScript, st.keys.ofMemo(), f[1])
		if err != nil {
			return "error " + err.Error()
		}
		if list := reply.([]any); list[1].(int64) > 0 {
			list[1] = "some"
		}
		return fmt.Sprint(reply)
	case "observe":
		reply, err = st.run(observeScript, st.keys.ofLine(), f[1])
	case "live":
		st.live(f[1:]...)
	case "dead":
		st.dead(f[1])
	case "pass":
		ms, _ := strconv.ParseInt(f[1], 10, 64)
		st.now += ms
	case "expire":
		st.b.do("DEL", st.keys.lock)
	case "redis": // "<" stands for a space
		args := make([]any, 0, len(f))
		for _, arg := range f[1:] {
			args = append(args, strings.ReplaceAll(arg, "<", " "))
		}
		st.b.do(args...)
	default:
		st.t.Fatalf("unknown step %q", step)
	}
	told := describe(reply, err, instance)
	if list, ok := reply.([]any); ok && strings.HasSuffix(step, " tell") { // since when it waits
		told[0] += fmt.Sprintf(" since=%v", list[5])
	}
	return strings.Join(append(told, st.heard()...), ", ")
}

// describe leaves out the fence and the time left, which other tests look at.
func describe(reply any, err error, instance string) []string {
	if err != nil {
		return []string{"error " + err.Error()}
	}
	if n, ok := reply.(int64); ok {
		return []string{fmt.Sprint(n)}
	}
	list, ok := reply.([]any)
	if !ok {
		return nil
	}
	var out []string
	switch list[0] {
	case "held":
		out = append(out, fmt.Sprintf("held %v %v", list[1], list[2]))
	case "granted", "no", "gone", "free":
		out = append(out, list[0].(string))
	case "value", "rejected", "stale":
		out = append(out, list[0].(string)+" "+list[1].(string))
	case "wait":
		word := "wait"
		if list[2] == int64(1) {
			word += " first"
		}
		if list[3] == int64(1) {
			word += " stranger"
		}
		out = append(out, word)
	default:
		out = append(out, fmt.Sprint(list[0]))
		if len(list) >= 3 && list[2] == int64(1) {
			out = append(out, "own ready")
		}
		if len(list) == 3 && list[2] != "0" && fmt.Sprintf("%T", list[2]) == "string" {
			out = append(out, fmt.Sprintf("own lost %s:%s", instance, list[2]))
		}
		if directly(list) {
			out = append(out, "directly")
		}
	}
	for _, part := range list {
		if rings, ok := part.([]any); ok {
			for _, ring := range rings {
				switch seq, _, _ := strings.Cut(ring.(string), " "); seq {
				case "0":
					out = append(out, "watch")
				case "-1":
					out = append(out, "own ended")
				default:
					out = append(out, fmt.Sprintf("own %s:%s", instance, seq))
				}
			}
		}
	}
	return out
}

// directly: the reply is that of a release which gave the lock to the named waiter for all of his lease.
func directly(list []any) bool {
	if len(list) != 4 {
		return false
	}
	_, told := list[3].([]any)
	return told
}

// state is what Redis holds: owner, line with places, record, suspects.
func (st *stage) state() string {
	st.t.Helper()
	get := func(field string) string {
		v, _ := st.b.do("HGET", st.keys.fence, field).(string)
		return v
	}
	owner, _ := st.b.do("GET", st.keys.lock).(string)
	places := st.hash(st.keys.waiting)
	var waiting []string
	for _, token := range st.b.do("LRANGE", st.keys.queue, 0, -1).([]any) {
		waiting = append(waiting, fmt.Sprintf("%s=%s", token, places[token.(string)]))
		delete(places, token.(string))
	}
	for _, token := range slices.Sorted(maps.Keys(places)) {
		waiting = append(waiting, "not in line: "+token)
	}
	record := strings.TrimSpace(get("tok") + " " + get("att") + " " + get("st"))
	out := fmt.Sprintf("%s [%s] {%s}", owner, strings.Join(waiting, " "), record)
	if x := get("x"); x != "" {
		out += " suspect " + x
	}
	return out
}

func (st *stage) hash(key string) map[string]string {
	m, err := st.b.c.HGetAll(context.Background(), key).Result()
	if err != nil {
		st.t.Fatal(err)
	}
	return m
}

// fence is the last fencing number.
func (st *stage) fence() int64 {
	st.t.Helper()
	n, err := strconv.ParseInt(st.b.do("HGET", st.keys.fence, "n").(string), 10, 64)
	if err != nil {
		st.t.Fatal(err)
	}
	return n
}
