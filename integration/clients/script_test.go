package clients

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// node runs a script of node/ with a RESP version.
func node(script string, protocol int) func(*testing.T, *server) {
	return func(t *testing.T, on *server) {
		program, _ := harness.Node(t)
		runScript(t, on, exec.CommandContext(t.Context(), program, filepath.Join("node", script),
			"127.0.0.1", strconv.Itoa(on.port), strconv.Itoa(protocol), on.path()))
	}
}

// python runs a script of python/.
func python(script string) func(*testing.T, *server) {
	return func(t *testing.T, on *server) {
		runScript(t, on, exec.CommandContext(t.Context(), harness.Python(t), filepath.Join("python", script),
			"127.0.0.1", strconv.Itoa(on.port), on.path()))
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
