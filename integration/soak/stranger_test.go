package soak

import (
	"fmt"
	"strconv"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// set stores a value as any client may.
func (c *client) set(e *entry) {
	if !c.connect(e.db) {
		return
	}
	r := e.make("set", e.source.Load(), 0)
	args := []string{"SET", e.name, r.text}
	if !c.chance(4) {
		r.ttl = c.between(time.Millisecond, 2*time.Second)
		args = append(args, "PX", ms(r.ttl))
	}
	_, number := e.change()
	r.call = c.now()
	a := c.exchange(e, soon, 0, args...)
	c.stored(e, r, number, a)
}

func (c *client) stored(e *entry, r *record, number uint64, a answer) {
	o := unknown
	switch v := a.value.(type) {
	case string:
		o = yes
	case stage.Refusal:
		c.refused(e, "SET", string(v))
	}
	c.count("SET by a stranger: " + [...]string{"no answer", "OK", ""}[o])
	e.settled(r, o, a.ret)
	var stored *record
	if o == yes {
		stored = r
	}
	e.changed(number, r.call, o, stored)
}

// peer is a process with redis-memolock, on a connection of its own to Redis.
func (c *client) peer(e *entry) {
	conn, err := harness.TryDial(c.Redis.Addr)
	if err != nil {
		return
	}
	defer conn.Close()
	do := func(args ...string) any {
		conn.Write([]byte(harness.Command(args...)))
		reply, err := conn.ReplyWithin(soon)
		if err != nil {
			return nil
		}
		value, _, _ := stage.ParseOne(reply)
		e.note(fmt.Sprintf("until %v: peer %d: %.120q: %s", time.Duration(c.now()), c.id, args, short(value)))
		return value
	}
	if do("SELECT", strconv.Itoa(e.db)) != "OK" {
		return
	}
	if value, hit := do("GET", e.name).(string); hit {
		c.did("peer: hit")
		e.mu.Lock()
		e.find("a value in Redis", value)
		e.mu.Unlock()
		return
	}
	token, lease := fmt.Sprintf("peer-%d-%d-%d", c.seed, c.id, e.serial.Add(1)), c.between(200*time.Millisecond, time.Second)
	if do("SET", stage.KeyOf(e.name, "lock"), token, "PX", ms(lease), "NX") != "OK" {
		c.did("peer: somebody generates")
		return
	}
	asked := c.now()
	time.Sleep(c.upTo(100 * time.Millisecond)) // it computes
	if c.chance(10) {
		c.did("peer: died")
		return
	}
	r := e.make("publish", e.source.Load(), 0)
	_, number := e.change()
	r.call = c.now()
	r.ttl = c.between(20*time.Millisecond, 2*time.Second)
	value := do("SET", e.name, r.text, "PX", ms(r.ttl))
	a := answer{status: broken}
	if value == "OK" {
		a = answer{value: value, call: r.call, ret: c.now()}
	}
	c.stored(e, r, number, a)
	if value != "OK" {
		return
	}
	c.did("peer: SET and PUBLISH")
	do("PUBLISH", stage.KeyOf(e.name, "notif"), r.text)
	if c.chance(2) && c.now()-asked < int64(lease) { // as its version for C# does
		do("EVAL", "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0", "1", stage.KeyOf(e.name, "lock"), token)
	}
}
