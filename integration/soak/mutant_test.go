package soak

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// mutants are files of the engine with one thing wrong, and what a run may say of a proxy that has them.
var mutants = map[string]struct {
	file, right, wrong string
	caught             []string
}{
	"KS.FORGET leaves the promise": {
		file: "lua/forget.lua", right: "if s.owner and s.owner == s.tok", wrong: "if false and s.owner == s.tok",
		caught: []string{"older than the source", "after KS.FORGET was answered"},
	},
	"KS.FORGET leaves the value": {
		file: "lua/forget.lua", right: "gone[1] = KEYS[5]", wrong: "gone[1] = KEYS[6]",
		caught: []string{"stored before the last KS.FORGET", "older than the source"},
	},
	"everybody generates": {
		file: "lua/ask_memo.lua", right: "local reply = ask(s, 'm')\n", wrong: "s.owner = nil local reply = ask(s, 'm')\n",
		caught: []string{" held from ", "though its lease lasts"},
	},
	"rejections are told to who comes later": {
		file: "lua/ask_memo.lua", right: "if kind == 'm' then return message", wrong: "if kind then return message",
		caught: []string{"delivered to who came after it"},
	},
}

// TestBrokenProxiesAreCaught builds proxies that are broken and lets this test's own program run on them, with few
// names, until something is found.
func TestBrokenProxiesAreCaught(t *testing.T) {
	if os.Getenv(harness.BinaryEnv) != "" {
		t.Skip("another binary is to be tested")
	}
	for name, m := range mutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := exec.Command(os.Args[0], "-test.run", "^TestSoak$", "-test.timeout", "150s", "-soak.time", "40s",
				"-soak.names", "2", "-soak.seed", "1", "-soak.first", "-soak.files", t.TempDir())
			run.Env = append(os.Environ(), harness.BinaryEnv+"="+harness.Mutant(t, m.file, m.right, m.wrong))
			out, err := run.CombinedOutput()
			said := string(out)
			if strings.Contains(said, "--- SKIP") {
				t.Skip("no redis-server")
			}
			for _, caught := range m.caught {
				if err != nil && strings.Contains(said, caught) {
					_, wrong, _ := strings.Cut(said, "WRONG ")
					t.Logf("found: %.300s", wrong)
					return
				}
			}
			t.Errorf("the run did not find %q: %v\n%s", m.caught, err, said)
		})
	}
}
