package locks

import (
	"strings"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// trouble is what Redis may be in.
type trouble struct {
	name    string
	redis   []string // directives it needs
	refuses string   // first word of Redis's own refusal; none: calls are served, perhaps late
	all     bool     // it refuses what only reads as well
	begin   func(t *testing.T, s *stage.Stage) (end func())
	brief   bool // it is over by itself, and begins anew before each call
}

var troubles = []trouble{
	{name: "SCRIPT FLUSH", brief: true, begin: func(t *testing.T, s *stage.Stage) func() {
		s.Must(t, "SCRIPT", "FLUSH")
		return func() {}
	}},
	{name: "CLIENT PAUSE ALL", brief: true, begin: func(t *testing.T, s *stage.Stage) func() {
		s.Must(t, "CLIENT", "PAUSE", "60", "ALL")
		return func() {}
	}},
	{name: "CLIENT PAUSE WRITE", brief: true, begin: func(t *testing.T, s *stage.Stage) func() {
		s.Must(t, "CLIENT", "PAUSE", "60", "WRITE")
		return func() {}
	}},
	{name: "DEBUG SLEEP", brief: true, begin: func(t *testing.T, s *stage.Stage) func() {
		c := s.Dial(t)
		c.Send(t, harness.Command("DEBUG", "SLEEP", "0.06"))
		return func() {
			c.Reply(t)
			c.Close()
		}
	}},
	{name: "an endless script", redis: []string{"--busy-reply-threshold", "20"}, refuses: "BUSY", all: true, begin: busy},
	{name: "memory is used up", redis: []string{"--maxmemory-policy", "noeviction"}, refuses: "OOM", begin: configured("maxmemory", "1", "0")},
	{name: "a replica", refuses: "READONLY", begin: func(t *testing.T, s *stage.Stage) func() {
		s.Must(t, "REPLICAOF", "127.0.0.1", "1")
		return func() { s.Must(t, "REPLICAOF", "NO", "ONE") }
	}},
	{name: "too few replicas", refuses: "NOREPLICAS", begin: configured("min-replicas-to-write", "1", "0")},
	{
		name: "data is being loaded", refuses: "LOADING", all: true, begin: loading,
		redis: []string{"--loading-process-events-interval-bytes", "1024"},
	},
}

// configured sets a directive, and sets it back.
func configured(directive, value, back string) func(*testing.T, *stage.Stage) func() {
	return func(t *testing.T, s *stage.Stage) func() {
		s.Must(t, "CONFIG", "SET", directive, value)
		return func() { s.Must(t, "CONFIG", "SET", directive, back) }
	}
}

func busy(t *testing.T, s *stage.Stage) func() {
	c := s.Dial(t)
	c.Send(t, harness.Command("EVAL", "while true do end", "0"))
	awaitRefusal(t, s, "BUSY")
	return func() {
		s.Must(t, "SCRIPT", "KILL")
		c.Reply(t)
		c.Close()
	}
}

// loading lets Redis read all its data again, as slowly as is needed.
func loading(t *testing.T, s *stage.Stage) func() {
	s.Must(t, "EVAL", "for i = 1, 20000 do redis.call('SET', 'loaded:' .. i, string.rep('x', 100)) end", "0")
	s.Must(t, "CONFIG", "SET", "key-load-delay", "2000")
	c := s.Dial(t)
	c.Send(t, harness.Command("DEBUG", "RELOAD"))
	awaitRefusal(t, s, "LOADING")
	return func() {
		s.Must(t, "CONFIG", "SET", "key-load-delay", "0")
		if reply := c.Reply(t); reply != "+OK\r\n" {
			t.Fatalf("DEBUG RELOAD answers %q", reply)
		}
		c.Close()
		s.Must(t, "EVAL", "for i = 1, 20000 do redis.call('DEL', 'loaded:' .. i) end", "0")
	}
}

func awaitRefusal(t *testing.T, s *stage.Stage, word string) {
	t.Helper()
	stage.Eventually(t, "Redis answers "+word, func() bool {
		words, refused := s.Try(t, "GET", "x").(stage.Refusal)
		return refused && strings.HasPrefix(string(words), word+" ")
	})
}

// serves reports whether a call is to be served nevertheless.
func (w trouble) serves(d deed) bool {
	switch {
	case w.refuses == "":
		return true
	case w.all:
		return false
	case w.refuses == "OOM":
		return d.frees
	}
	return d.reads
}

// In trouble each call is served, or refused in Redis's own words with nothing half done; afterwards it
// is served.
func TestCallsWhileRedisIsInTrouble(t *testing.T) {
	for _, what := range troubles {
		t.Run(what.name, func(t *testing.T) {
			t.Parallel()
			s := stage.Setup{Redis: what.redis}.Start(t)
			c := s.Client(t, 1)
			ready := make([][]string, len(deeds))
			named := make([]string, len(deeds))
			for i, d := range deeds {
				named[i] = newName()
				ready[i] = d.ready(t, s, named[i])
			}
			// Without the lines: who stands there may ask again meanwhile, be refused as well, and leave.
			dump := func() string { return s.DumpOf(t, "*", "/lockwaiting") }
			before, end := dump(), func() {}
			if !what.brief {
				end = what.begin(t, s)
			}
			for i, d := range deeds {
				if what.brief {
					end = what.begin(t, s)
				} else if !what.all {
					before = d.left(t, s, named[i])
				}
				reply := c.Call(ready[i]...)
				if what.brief {
					end()
				}
				if what.serves(d) {
					if !d.right(reply) {
						t.Errorf("%s, %q: answered %#v", d.name, ready[i], reply)
					}
					ready[i] = nil
					continue
				}
				if words, refused := reply.(stage.Refusal); !refused || !strings.HasPrefix(string(words), what.refuses+" ") {
					t.Errorf("%s, %q: answered %#v, want %s", d.name, ready[i], reply, what.refuses)
				}
				if what.all {
					continue
				}
				if now := d.left(t, s, named[i]); now != before {
					t.Errorf("%s: refused, but Redis has changed from\n%s\nto\n%s", d.name, before, now)
				}
			}
			if !what.brief {
				end()
			}
			if now := dump(); what.all && now != before { // it could not be asked before
				t.Errorf("refused calls have changed Redis from\n%s\nto\n%s", before, now)
			}
			for i, d := range deeds { // service resumes, for what was refused as well
				if ready[i] == nil {
					ready[i] = d.ready(t, s, newName())
				}
				if reply := c.Call(ready[i]...); !d.right(reply) {
					t.Errorf("afterwards %s, %q: answered %#v", d.name, ready[i], reply)
				}
			}
		})
	}
}
