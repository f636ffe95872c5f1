package recipes

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// shell runs what the recipes with these headings show for the shell, as one script. Its PATH begins
// with the proxy's program and with stubs, name and text in turn.
func (s *scene) shell(t *testing.T, headings []string, stubs ...string) *program {
	t.Helper()
	harness.LookPath(t, "redis-cli")
	dir := t.TempDir()
	noError(t, os.Symlink(harness.Binary(t), filepath.Join(dir, "keysmith-proxy")))
	for i := 0; i < len(stubs); i += 2 {
		noError(t, os.WriteFile(filepath.Join(dir, stubs[i]), []byte("#!/bin/sh\n"+stubs[i+1]), 0o755))
	}
	var text string
	for _, heading := range headings {
		text += shellBlock(t, heading)
	}
	text = strings.ReplaceAll(text, "6380", strconv.Itoa(s.Proxies[0].Port))
	file := filepath.Join(dir, "recipe.sh")
	noError(t, os.WriteFile(file, []byte(text), 0o755))
	cmd := exec.Command("sh", "-e", file)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	return startProgram(t, cmd)
}

func shellBlock(t *testing.T, heading string) string {
	t.Helper()
	var text string
	for _, b := range blocks(t, "Recipes") {
		if b.language == "sh" && b.heading == heading {
			text += b.text
		}
	}
	if text == "" {
		t.Fatalf("the recipe %q has nothing for the shell", heading)
	}
	return text
}
