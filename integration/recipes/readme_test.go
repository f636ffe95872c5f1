package recipes

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// A block is fenced code of the README.
type block struct {
	heading  string // the nearest one above
	language string
	text     string
}

// blocks are those of the README's sections of level two whose heading is given.
func blocks(t *testing.T, section string) []block {
	t.Helper()
	root, err := harness.Root()
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(readme), "\n## "+section+"\n")
	if !found {
		t.Fatalf("the README has no section %q", section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	var all []block
	var heading string
	var open *block
	for line := range strings.Lines(text) {
		mark, fenced := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case fenced && open != nil:
			all, open = append(all, *open), nil
		case fenced:
			open = &block{heading: heading, language: mark}
		case open != nil:
			open.text += line
		case strings.HasPrefix(line, "### "):
			heading = strings.TrimSpace(line[4:])
		}
	}
	if len(all) == 0 {
		t.Fatalf("the section %q has no code", section)
	}
	return all
}

// languages are those of the recipes; the key is what follows the fence.
var languages = map[string]struct{ files, comment string }{
	"go":     {"go/*.go", "//"},
	"js":     {"node/*.mjs", "//"},
	"python": {"python/*.py", "#"},
}

// shown are the parts of a program that the README shows.
func shown(t *testing.T, file, comment string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(text), comment+" README begins\n")[1:]
	for i := range parts {
		part, _, closed := strings.Cut(parts[i], comment+" README ends\n")
		if !closed {
			t.Fatalf("%s: part %d has no end", file, i+1)
		}
		part = strings.Trim(strings.TrimRight(part, " \t"), "\n")
		indent := part[:len(part)-len(strings.TrimLeft(part, " \t"))]
		parts[i] = strings.ReplaceAll(strings.TrimPrefix(part, indent), "\n"+indent, "\n")
	}
	return parts
}

// What the README shows and what the tests run are the same, in both directions.
// Only the line that says where the proxy is differs.
func TestTheReadmeShowsWhatRuns(t *testing.T) {
	examples := blocks(t, "From your language")
	recipes := blocks(t, "Recipes")
	for name, language := range languages {
		files, err := filepath.Glob(language.files)
		if err != nil || len(files) == 0 {
			t.Fatalf("no programs in %s: %v", name, err)
		}
		unseen := map[int]string{} // what is left of each block
		for i, b := range recipes {
			if b.language == name {
				unseen[i] = b.text
			}
		}
		for _, file := range files {
			for _, part := range shown(t, file, language.comment) {
				found := false
				for _, b := range examples {
					found = found || b.language == name && strings.Contains(b.text, part+"\n")
				}
				for i, text := range unseen {
					if strings.Contains(text, part+"\n") {
						found, unseen[i] = true, strings.Replace(text, part+"\n", "", 1)
					}
				}
				if !found {
					t.Errorf("the README does not show this part of %s as it is:\n%s", file, part)
				}
			}
		}
		for i, text := range unseen {
			for line := range strings.Lines(text) {
				if strings.TrimSpace(line) != "" && !strings.Contains(line, "6380") {
					t.Errorf("%s, %s: no program contains this line:\n%s", recipes[i].heading, name, line)
				}
			}
		}
	}
	for _, b := range recipes {
		if _, known := languages[b.language]; !known && b.language != "sh" {
			t.Errorf("%s: nothing runs the block of %q", b.heading, b.language)
		}
	}
}
