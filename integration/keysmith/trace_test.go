package keysmith

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/keysmith/recorded"
)

// scene is one state of the trace.
type scene struct {
	what   string
	given  []string
	script string
	sent   []string
	reply  string
}

func scenes() (all []scene) {
	for part := range strings.SplitSeq(recorded.Trace, "\n\n") {
		var s scene
		for line := range strings.Lines(part) {
			line = strings.TrimSpace(line)
			switch {
			case line == "", line[0] == '#':
			case line[0] == '<':
				s.given = append(s.given, line[2:])
			case line[0] == '>':
				s.sent = append(s.sent, line[2:])
			case line[0] == '=':
				s.reply = strings.TrimSpace(line[1:])
			case s.what == "":
				s.what = line
			default:
				s.script = line
			}
		}
		if s.what != "" {
			all = append(all, s)
		}
	}
	return all
}

// The scripts that play KeySmith send what KeySmith's own have sent.
func TestTheScriptsDoWhatWasRecorded(t *testing.T) {
	t.Parallel()
	s := &stage{Redis: harness.StartRedis(t)}
	s.admin = s.client(s.Addr)
	t.Cleanup(func() { s.admin.Close() })
	scripts := map[string]string{
		"take": recorded.Take, "release": recorded.Release, "situation": recorded.Situation,
	}
	keys := recorded.Keys{Lock: "lock", Queue: "queue", Set: "set", Channel: "channel"}
	monitor := s.Dial(t)
	monitor.Asks(t, "+OK\r\n", "MONITOR")
	played := map[string]int{}
	for _, scene := range scenes() {
		played[scene.script]++
		t.Run(scene.script+", "+scene.what, func(t *testing.T) {
			s.do(t, "FLUSHALL")
			for _, command := range scene.given {
				var args []any
				for arg := range strings.FieldsSeq(command) {
					args = append(args, arg)
				}
				s.do(t, args...)
			}
			args := append([]any{"EVAL", scripts[scene.script], 0}, keys.Args("me", 1500*time.Millisecond)...)
			reply, err := s.admin.Do(context.Background(), args...).Result()
			if got := strings.TrimSpace(fmt.Sprint(reply)); err == nil && got != scene.reply || err != nil && scene.reply != "" {
				t.Errorf("it returned %v, %v, want %q", reply, err, scene.reply)
			}
			end := "end of " + scene.what
			s.do(t, "ECHO", end)
			if got := sentByScripts(t, monitor, end); !slices.Equal(got, scene.sent) {
				t.Errorf("it sent\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(scene.sent, "\n"))
			}
		})
	}
	for name := range scripts {
		if played[name] < 3 {
			t.Errorf("only %d scenes of %s", played[name], name)
		}
	}
}

// sentByScripts reads the commands of scripts from MONITOR until a line with end in it.
func sentByScripts(t *testing.T, monitor *harness.Conn, end string) (commands []string) {
	t.Helper()
	for {
		line := monitor.Reply(t)
		if strings.Contains(line, end) {
			return commands
		}
		if _, command, found := strings.Cut(line, "[0 lua] "); found {
			commands = append(commands, strings.ReplaceAll(strings.TrimSpace(command), `"`, ""))
		}
	}
}
