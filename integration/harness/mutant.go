package harness

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Mutant builds a proxy with something wrong in one file of the engine: the wrong text in the place of the right one,
// which must be there once. The test's package lies two directories below the module's.
func Mutant(t testing.TB, file, right, wrong string) string {
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
	build := exec.Command("go", "build", "-overlay", overlay, "-o", binary, mainPackage)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}
