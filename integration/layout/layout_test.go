package layout

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/keysmith-proxy/keysmith-proxy/"

// allowed lists, for each package, the imports beyond the standard library
// that it may have, by prefix, and why no more.
var allowed = []struct {
	pkg     string
	imports []string
	why     string
}{
	{"passthrough", nil, "bytes pass through it unseen; it is the standard library's business alone"},
	{"engine", []string{"github.com/redis/go-redis/v9"}, "it knows Redis by scripts and its own clients, not by sockets or RESP"},
	{"commands", []string{module + "engine", "github.com/tidwall/redcon"}, "it is the dialect: sockets and Lua are others'"},
	{"proxy", []string{module + "commands", module + "engine", module + "passthrough", "golang.org/x/sys"}, "of the engine it knows the errors of a session, not its work"},
	{"integration", []string{module + "integration/", "github.com/redis/go-redis/v9"}, "it drives the built binary and knows nothing of the inside"},
}

func TestPackagesImportOnlyWhatTheirJobNeeds(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports ","}} {{join .TestImports ","}}`, module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		fields := strings.SplitN(strings.TrimRight(line, "\n"), " ", 3)
		path := strings.TrimPrefix(fields[0], module)
		for _, rule := range allowed {
			if path != rule.pkg && !strings.HasPrefix(path, rule.pkg+"/") {
				continue
			}
			seen[rule.pkg] = true
			imports := fields[1]
			if rule.pkg == "integration" {
				imports += "," + fields[2] // there the tests are the package
			}
			for _, imported := range strings.Split(imports, ",") {
				if !permitted(imported, rule.imports) {
					t.Errorf("%s imports %s: %s", path, imported, rule.why)
				}
			}
		}
	}
	for _, rule := range allowed {
		if !seen[rule.pkg] {
			t.Errorf("there is no package %s", rule.pkg)
		}
	}
}

// permitted reports whether a package is in the standard library, or allowed.
func permitted(imported string, prefixes []string) bool {
	first, _, _ := strings.Cut(imported, "/")
	if !strings.Contains(first, ".") {
		return true
	}
	for _, prefix := range prefixes {
		if strings.HasPrefix(imported, prefix) {
			return true
		}
	}
	return false
}
