package recipes

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// The examples for each language are whole programs: they run as they stand, but for the port.
func TestTheExamplesRunAsTheyStand(t *testing.T) {
	t.Parallel()
	for _, b := range blocks(t, "From your language") {
		switch {
		case b.heading == session, b.language == "php", b.language == "ruby", strings.HasSuffix(b.heading, "(not run)"):
			continue // tried below, by hand, not at all: the README says so
		case around[b.language][0] == "":
			t.Errorf("nothing runs %q", b.heading)
			continue
		}
		t.Run(b.heading, func(t *testing.T) {
			t.Parallel()
			s := startScene(t)
			said := s.run(t, b.language, b.text).end(t)
			if len(said) != 2 || !regexp.MustCompile(`^working with fence \d{16}$`).MatchString(said[0]) || said[1] != "ice" {
				t.Errorf("it says %q", said)
			}
			equal(t, "the value", s.get(t, "likes:kristoff"), "ice")
			equal(t, "the owner", s.Owner(t, "jobs:nightly"), "")
		})
	}
}

const session = "SESSION, in any language"

// What the README shows of SESSION is no program without this.
var around = map[string][2]string{
	"go": {`package main

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

func main() {
	ctx := context.Background()
`, "fmt.Println(\"holds\", lock, err)\nfmt.Scanln()\n}\n"},
	"python": {"import redis\n", ""},
	"js":     {"import Redis from \"ioredis\";\n", ""},
}

// It holds the lock, and gives it back at once.
func TestTheExamplesOfSessionLocksTakeAndReleaseThem(t *testing.T) {
	t.Parallel()
	for _, b := range blocks(t, "From your language") {
		if b.heading != session {
			continue
		}
		t.Run(b.language, func(t *testing.T) {
			t.Parallel()
			s := startScene(t)
			text := around[b.language][0] + b.text + around[b.language][1]
			p := s.run(t, b.language, text)
			if b.language == "go" {
				p.hear(t, "holds")
				if s.Owner(t, "jobs:nightly") == "" {
					t.Error("nobody has the lock")
				}
				p.tell("")
			}
			p.end(t)
			s.AwaitFree(t, "jobs:nightly")
			if s.Must(t, "EXISTS", "jobs/fence:nightly") != any(int64(1)) {
				t.Error("nobody has had the lock")
			}
		})
	}
}

// run runs a program of the README that is not a file of ours.
func (s *scene) run(t *testing.T, language, text string) *program {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, map[string]string{"go": "main.go", "python": "main.py", "js": "main.mjs"}[language])
	text = strings.ReplaceAll(text, "6380", strconv.Itoa(s.Proxies[0].Port))
	noError(t, os.WriteFile(file, []byte(text), 0o600))
	switch language {
	case "go":
		program := filepath.Join(dir, "main")
		if out, err := exec.Command("go", "build", "-o", program, file).CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
		return startProgram(t, exec.Command(program))
	case "python":
		return startProgram(t, exec.Command(harness.Python(t), file))
	default:
		node, modules := harness.Node(t)
		linkModules(t, modules, dir)
		return startProgram(t, exec.Command(node, file))
	}
}
