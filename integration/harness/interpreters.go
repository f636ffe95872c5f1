package harness

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// LookPath finds the program a test needs, else skips the test, or fails it in CI.
func LookPath(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	needed(t, program, err)
	return path
}

// Node returns the path of node, and a node_modules directory with the client
// libraries that integration/clients/node/package-lock.json names. Without
// node the test is skipped, or fails in CI.
func Node(t testing.TB) (program, modules string) {
	t.Helper()
	program, err := exec.LookPath("node")
	needed(t, "node", err)
	modules, err = installModules()
	needed(t, "npm with its libraries", err)
	return program, modules
}

// Python returns the path of a python3 that has redis-py. Without one the test
// is skipped, or fails in CI.
func Python(t testing.TB) string {
	t.Helper()
	program, err := findPython()
	needed(t, "python3 with redis-py", err)
	return program
}

// Root is the directory of the module whose tests run.
func Root() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}

// needed skips the test when err says that something is not installed; in CI
// that is a failure.
func needed(t testing.TB, what string, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("%s is needed in CI: %v", what, err)
	default:
		t.Skipf("%s: %v", what, err)
	}
}

// installModules has npm install the libraries once, and again when the lock
// file has changed. Test packages run at the same time: the first one installs.
var installModules = sync.OnceValues(func() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "integration", "clients", "node")
	list, err := os.Open(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return "", err
	}
	defer list.Close()
	if err := syscall.Flock(int(list.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	content, err := os.ReadFile(list.Name())
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(content)
	want := hex.EncodeToString(sum[:])
	modules := filepath.Join(dir, "node_modules")
	stamp := filepath.Join(modules, ".installed") // names the lock file that was installed
	if have, err := os.ReadFile(stamp); err == nil && string(have) == want {
		return modules, nil
	}
	npm := exec.Command("npm", "ci", "--ignore-scripts") // the one install script fetches an optional accelerator
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	return modules, os.WriteFile(stamp, []byte(want), 0o644)
})

// findPython tries the first of PATH, then that of the system, for which
// distributions package redis-py.
var findPython = sync.OnceValues(func() (string, error) {
	var errs []string
	for _, program := range []string{"python3", "/usr/bin/python3"} {
		out, err := exec.Command(program, "-c", "import redis").CombinedOutput()
		if err == nil {
			return program, nil
		}
		errs = append(errs, fmt.Sprintf("%s: %v: %s", program, err, bytes.TrimSpace(out)))
	}
	return "", fmt.Errorf("no python3 can import redis: %s", strings.Join(errs, "; "))
})
