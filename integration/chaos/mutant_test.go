package chaos

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// mutants are files of the engine with one thing wrong, and what a run must say of a proxy that has them.
var mutants = map[string]struct{ file, right, wrong, caught string }{
	"newcomers barge in": { // where nobody waits yet, as it is for most newcomers
		file: "lua/short_ask.lua",
		right: `local nobody = owner == false and call('EXISTS', QUEUE, WAITING) == 0
  local stands = type(owner)`,
		wrong: `local nobody = owner ~= TOKEN and call('EXISTS', QUEUE, WAITING) == 0
  local stands = not nobody and type(owner)`, caught: " was granted at ",
	},
	"stale holders write": {
		file: "guard.go", right: `string(owner) == held && g.token != ""`,
		wrong: `held != "" && owner != nil`, caught: "not linearizable",
	},
	"fences fall": {
		file: "lua/ask.lua", right: "math.max(s.n + 1, s.us, tonumber(ARGV[12]) + 1)",
		wrong: "9e15 - s.us", caught: "a fence falls",
	},
}

// TestBrokenProxiesAreCaught builds proxies that are broken and lets this test's own program run
// on them, to the first round that finds something.
func TestBrokenProxiesAreCaught(t *testing.T) {
	if os.Getenv(harness.BinaryEnv) != "" {
		t.Skip("another binary is to be tested")
	}
	for name, m := range mutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := exec.Command(os.Args[0], "-test.run", "^TestChaos$", "-test.timeout", "150s",
				"-chaos.time", "40s", "-chaos.round", "2500ms", "-chaos.seed", "1", "-chaos.files", t.TempDir())
			run.Env = append(os.Environ(), harness.BinaryEnv+"="+harness.Mutant(t, m.file, m.right, m.wrong))
			out, err := run.CombinedOutput()
			switch said := string(out); {
			case strings.Contains(said, "--- SKIP"):
				t.Skip("no redis-server")
			case err == nil || !strings.Contains(said, m.caught):
				t.Errorf("the run did not find %q: %v\n%s", m.caught, err, said)
			}
		})
	}
}
