package clients

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// node runs a script of node/ with a RESP version.
func node(script string, protocol int) func(*testing.T, *server) {
	return func(t *testing.T, on *server) {
		program, err := installNode()
		needed(t, "node", err)
		runScript(t, on, exec.CommandContext(t.Context(), program, filepath.Join("node", script),
			"127.0.0.1", strconv.Itoa(on.port), strconv.Itoa(protocol), on.path()))
	}
}

// python runs a script of python/.
func python(script string) func(*testing.T, *server) {
	return func(t *testing.T, on *server) {
		program, err := findPython()
		needed(t, "python3 with redis-py", err)
		runScript(t, on, exec.CommandContext(t.Context(), program, filepath.Join("python", script),
			"127.0.0.1", strconv.Itoa(on.port), on.path()))
	}
}

// needed skips the test when err says that something is not installed; in CI
// that is a failure.
func needed(t *testing.T, what string, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("%s is needed in CI: %v", what, err)
	default:
		t.Skipf("%s: %v", what, err)
	}
}

// runScript runs a script and turns the lines it prints into subtests:
//
//	version <library> <version>
//	ok <case>
//	not ok <case> <reason>
//	ask restart               answered by "done" when Redis has been restarted
func runScript(t *testing.T, on *server, script *exec.Cmd) {
	var complaints bytes.Buffer
	script.Stderr = &complaints
	input, output := pipes(t, script)
	if err := script.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "version":
			on.named(rest)
		case "ok":
			on.report(t, rest, func(*testing.T) {})
		case "not":
			name, reason, _ := strings.Cut(strings.TrimPrefix(rest, "ok "), " ")
			on.report(t, name, func(t *testing.T) { t.Error(reason) })
		case "ask":
			on.restart()
			fmt.Fprintln(input, "done")
		default:
			t.Errorf("unexpected line %q", lines.Text())
		}
	}
	if err := script.Wait(); err != nil {
		t.Errorf("%v: %v\n%s", script.Args, err, complaints.String())
	}
	if t.Failed() && complaints.Len() > 0 {
		t.Logf("stderr:\n%s", complaints.String())
	}
}

func pipes(t *testing.T, cmd *exec.Cmd) (io.WriteCloser, io.ReadCloser) {
	t.Helper()
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	return input, output
}

// installNode has npm install the libraries once, into node/node_modules, and
// returns the path of node.
var installNode = sync.OnceValues(func() (string, error) {
	program, err := exec.LookPath("node")
	if err != nil {
		return "", err
	}
	lock, err := os.ReadFile("node/package-lock.json")
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(lock)
	want := hex.EncodeToString(sum[:])
	const stamp = "node/node_modules/.installed" // names the lock file that was installed
	if have, err := os.ReadFile(stamp); err == nil && string(have) == want {
		return program, nil
	}
	npm := exec.Command("npm", "ci", "--ignore-scripts") // the one install script fetches an optional accelerator
	npm.Dir = "node"
	if out, err := npm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	return program, os.WriteFile(stamp, []byte(want), 0o644)
})

// findPython returns a python3 that has redis-py: the first of PATH, else that
// of the system, for which distributions package it.
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
