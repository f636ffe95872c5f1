package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// BinaryEnv names an environment variable: the path of a keysmith-proxy to test
// instead of building one.
const BinaryEnv = "KEYSMITH_PROXY_BINARY"

const mainPackage = "github.com/keysmith-proxy/keysmith-proxy/cmd/keysmith-proxy"

// build holds what Binary has built, once per test process.
var build struct {
	once sync.Once
	dir  string
	path string
	err  error
}

// Main runs the tests of m and removes what was built for them; the result is
// the exit code for os.Exit.
func Main(m *testing.M) int {
	code := m.Run()
	if build.dir != "" {
		os.RemoveAll(build.dir)
	}
	return code
}

// Binary returns the path of the proxy under test. It is built on first use,
// with the race detector when the tests themselves run with it.
func Binary(t testing.TB) string {
	t.Helper()
	build.once.Do(buildBinary)
	if build.err != nil {
		t.Fatal(build.err)
	}
	return build.path
}

func buildBinary() {
	if build.path = os.Getenv(BinaryEnv); build.path != "" {
		return
	}
	if build.dir, build.err = os.MkdirTemp("", "keysmith-bin-"); build.err != nil {
		return
	}
	build.path = filepath.Join(build.dir, "keysmith-proxy")
	args := []string{"build", "-o", build.path}
	if RaceEnabled {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, mainPackage)...).CombinedOutput()
	if err != nil {
		build.err = fmt.Errorf("go %v: %w\n%s", args, err, out)
	}
}
