package chaos

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// mutants are files of the engine with one thing wrong, and what a run must say of a proxy that has them.
var mutants = map[string]struct{ file, right, wrong, caught string }{
	"newcomers barge in": {
		file: "lua/ask.lua", right: "if s.owner then return stand(s, a) end",
		wrong: "if s.owner and (a.place or a.nowait) then return stand(s, a) end", caught: " was granted at ",
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
			run.Env = append(os.Environ(), harness.BinaryEnv+"="+buildMutant(t, m.file, m.right, m.wrong))
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

// buildMutant builds a proxy with something wrong in one file.
func buildMutant(t *testing.T, file, right, wrong string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "engine", file))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(source), right) != 1 {
		t.Fatalf("%s has changed: choose another mutant than %q", file, right)
	}
	dir := t.TempDir()
	broken, overlay, binary := filepath.Join(dir, filepath.Base(file)), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "keysmith-proxy")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {path: broken}})
	if err != nil {
		t.Fatal(err)
	}
	for to, text := range map[string]string{broken: strings.Replace(string(source), right, wrong, 1), overlay: string(replace)} {
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-overlay", overlay, "-o", binary, "github.com/keysmith-proxy/keysmith-proxy/cmd/keysmith-proxy")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}
