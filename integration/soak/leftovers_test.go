package soak

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/faults"
	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// databases are those in which there are names.
var databases = []int{0, 1, 7}

// What a proxy may have of its own when it has nothing to do, at most.
const (
	ownConnections = 30
	ownGoroutines  = 60
	ownDescriptors = 60
)

// leftover is what should be gone.
type leftover struct{ kind, what string }

// admin asks Redis itself.
type admin struct {
	t    testing.TB
	conn *harness.Conn
}

func (a admin) do(args ...string) any {
	a.t.Helper()
	return stage.Parse(a.t, a.conn.Do(a.t, args...))
}

func (a admin) words(args ...string) []string {
	list, _ := a.do(args...).([]any)
	var words []string
	for _, one := range list {
		words = append(words, fmt.Sprint(one))
	}
	return words
}

// looksAfter waits until what should be gone is gone; what is not after that time is left over. It returns how many
// connections the proxies have of their own.
func (c *cycle) looksAfter(t testing.TB) (own int) {
	a := admin{t, c.Redis.Dial(t)}
	defer a.conn.Close()
	for deadline := time.Now().Add(c.quiet); ; {
		connections, own := c.connections(a)
		left := slices.Concat(c.keys(a), connections, c.subscriptions(a))
		if len(left) == 0 || time.Now().After(deadline) {
			for _, one := range left {
				c.left(one.kind, one.what)
			}
			c.values(a)
			return own
		}
		time.Sleep(200 * time.Millisecond) // the next look
	}
}

// keys are those that should be gone; nothing but values may be there for ever.
func (c *cycle) keys(a admin) (left []leftover) {
	for _, db := range databases {
		a.do("SELECT", strconv.Itoa(db))
		for _, key := range a.words("KEYS", "*") {
			tag, _, _ := strings.Cut(key, ":")
			ttl, _ := a.do("PTTL", key).(int64)
			switch {
			case ttl == -2: // gone meanwhile
			case !strings.Contains(tag, "/"): // a value
			case (strings.HasSuffix(tag, "/fence") || key == "ks/config:tag-split") && ttl != -1:
			case c.brief && strings.Contains(tag, "/lockwaiting") && ttl != -1:
			default:
				left = append(left, leftover{"keys", fmt.Sprintf("db %d: %s, for %d ms", db, key, ttl)})
			}
		}
	}
	return left
}

func (c *cycle) connections(a admin) (left []leftover, own int) {
	list, _ := a.do("CLIENT", "LIST").(string)
	for _, p := range stage.ParsePeers(list) {
		switch {
		case p["name"] == "keysmith-proxy":
			own++
		case p["cmd"] != "client|list":
			left = append(left, leftover{"connections", fmt.Sprint(p)})
		}
	}
	if own > faults.Proxies*ownConnections {
		left = append(left, leftover{"connections", fmt.Sprintf("%d of the proxies' own", own)})
	}
	return left, own
}

func (c *cycle) subscriptions(a admin) (left []leftover) {
	for _, channel := range a.words("PUBSUB", "CHANNELS") {
		if !strings.HasPrefix(channel, "ks/inbox:") && !strings.HasPrefix(channel, "ks/notif:") { // each proxy's own
			left = append(left, leftover{"subscriptions", channel})
		}
	}
	if n := a.do("PUBSUB", "NUMPAT"); n != int64(0) {
		left = append(left, leftover{"subscriptions", fmt.Sprintf("%v patterns", n)})
	}
	return left
}

// values are what is stored at the end: what somebody stored, after the last KS.FORGET.
func (c *cycle) values(a admin) {
	for _, e := range c.entries {
		a.do("SELECT", strconv.Itoa(e.db))
		v := e.look()
		switch value := a.do("GET", e.name).(type) {
		case string:
			e.value(v, e.now(), value, false)
		default:
			e.other(v, e.now(), "nothing")
		}
		a.do("DEL", e.name)
	}
}

// looksInside ends the proxies and looks what they were doing; in their place begin new ones.
func (c *cycle) looksInside(t testing.TB) {
	for i := range faults.Proxies {
		p := c.Proxy(i)
		descriptors := p.Files(t)
		dump := p.Dump(t)
		goroutines := strings.Count(dump, "\ngoroutine ")
		c.say("proxy %d: %d goroutines, %d descriptors", i, goroutines, descriptors)
		if goroutines > ownGoroutines || goroutines == 0 {
			name := filepath.Join(c.dir, fmt.Sprintf("soak-%d-goroutines-%d-%d.txt", os.Getpid(), c.seed, i))
			if err := os.WriteFile(name, []byte(dump), 0o600); err != nil {
				c.say("%v", err)
			}
			c.left("goroutines", fmt.Sprintf("proxy %d: %d, see %s", i, goroutines, name))
		}
		if descriptors > ownDescriptors {
			c.left("descriptors", fmt.Sprintf("proxy %d: %d", i, descriptors))
		}
		c.StartProxy(t, i)
	}
}
