package recipes

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

func TestMain(m *testing.M) {
	harness.Parallel("4")
	code := harness.Main(m)
	if scratch != "" {
		os.RemoveAll(scratch)
	}
	os.Exit(code)
}

// A scene is a stage on which programs play.
type scene struct{ *stage.Stage }

func startScene(t *testing.T, args ...string) *scene {
	t.Helper()
	return &scene{stage.Setup{Args: args}.Start(t)}
}

// get is the value of a key, empty if there is none.
func (s *scene) get(t *testing.T, key string) string {
	t.Helper()
	value, _ := s.Must(t, "GET", key).(string)
	return value
}

// everywhere are the languages of the recipes.
var everywhere = []string{"go", "node", "python"}

// start runs the program of a recipe with one of the proxies.
func (s *scene) start(t *testing.T, language, recipe string, proxy int, args ...string) *program {
	t.Helper()
	var cmd *exec.Cmd
	switch language {
	case "go":
		cmd = exec.Command(goPrograms(t), append([]string{recipe}, args...)...)
	case "node":
		node, dir := nodePrograms(t)
		cmd = exec.Command(node, append([]string{filepath.Join(dir, recipe+".mjs")}, args...)...)
	case "python":
		cmd = exec.Command(harness.Python(t), append([]string{filepath.Join("python", recipe+".py")}, args...)...)
		cmd.Env = []string{"PYTHONDONTWRITEBYTECODE=1"}
	}
	cmd.Env = append(append(os.Environ(), cmd.Env...), "PORT="+strconv.Itoa(s.Proxies[proxy].Port))
	return startProgram(t, cmd)
}

// scratch is where programs are built; TestMain removes it.
var scratch string

var makeScratch = sync.OnceValue(func() (err error) {
	scratch, err = os.MkdirTemp("", "ks-recipes-")
	return err
})

var buildGo = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "recipes")
	out, err := exec.Command("go", "build", "-o", path, "./go").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, err
})

func goPrograms(t *testing.T) string {
	t.Helper()
	noError(t, makeScratch())
	path, err := buildGo()
	noError(t, err)
	return path
}

var linkNode = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(scratch, "node")
	return dir, os.CopyFS(dir, os.DirFS("node"))
})

// nodePrograms returns node, and the directory of the programs: beside its libraries,
// for that is where node looks for them.
func nodePrograms(t *testing.T) (node, dir string) {
	t.Helper()
	noError(t, makeScratch())
	node, modules := harness.Node(t)
	dir, err := linkNode()
	noError(t, err)
	linkModules(t, modules, dir)
	return node, dir
}

func linkModules(t *testing.T, modules, dir string) {
	t.Helper()
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
}

// A program is one that runs and talks to the test, line by line.
type program struct {
	cmd        *exec.Cmd
	input      io.WriteCloser
	lines      chan string // closed at the end of its output
	complaints bytes.Buffer
}

// startProgram runs cmd, at the latest until the end of the test.
func startProgram(t *testing.T, cmd *exec.Cmd) *program {
	t.Helper()
	p := &program{cmd: cmd, lines: make(chan string, 1000)}
	var err error
	p.input, err = cmd.StdinPipe()
	noError(t, err)
	output, err := cmd.StdoutPipe()
	noError(t, err)
	cmd.Stderr = &p.complaints
	noError(t, cmd.Start())
	go func() {
		for scan := bufio.NewScanner(output); scan.Scan(); {
			p.lines <- scan.Text()
		}
		close(p.lines)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() && p.complaints.Len() > 0 {
			t.Logf("stderr of %v:\n%s", cmd.Args, p.complaints.String())
		}
	})
	return p
}

// kill ends the program without a word, and is harmless when it has ended.
func (p *program) kill() {
	if p.cmd.ProcessState != nil {
		return
	}
	p.cmd.Process.Signal(syscall.SIGKILL)
	for range p.lines { // the rest
	}
	p.cmd.Wait()
}

func (p *program) tell(line string) { fmt.Fprintln(p.input, line) }

// hear waits for a line that begins with these words, and returns what follows them.
func (p *program) hear(t *testing.T, words string) string {
	t.Helper()
	select {
	case line, open := <-p.lines:
		rest, ok := strings.CutPrefix(line, words)
		if !open || !ok {
			t.Fatalf("%v says %q (%t), not %q", p.cmd.Args, line, open, words)
		}
		return strings.TrimSpace(rest)
	case <-time.After(harness.Patience):
		t.Fatalf("%v does not say %q", p.cmd.Args, words)
		return ""
	}
}

// end waits for the end of the program, which must be a success, and returns what else it has said.
func (p *program) end(t *testing.T) (said []string) {
	t.Helper()
	said, err := p.exit(t)
	if err != nil {
		t.Fatalf("%v: %v, and has said %q", p.cmd.Args, err, said)
	}
	return said
}

// exit is end for programs that may fail.
func (p *program) exit(t *testing.T) (said []string, err error) {
	t.Helper()
	late := time.After(2 * harness.Patience)
	for {
		select {
		case line, open := <-p.lines:
			if !open {
				return said, p.cmd.Wait()
			}
			said = append(said, line)
		case <-late:
			t.Fatalf("%v does not end, and has said %q", p.cmd.Args, said)
		}
	}
}

// together lets programs that wait begin at the same time, and waits for their ends.
func together(t *testing.T, programs []*program) {
	t.Helper()
	for _, p := range programs {
		p.hear(t, "ready")
	}
	for _, p := range programs {
		p.tell("go")
	}
	for _, p := range programs {
		p.end(t)
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}
