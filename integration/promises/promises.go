// Package promises checks tables of promises, PROMISES.md beside the tests of a package: a row for each sentence
// of what is promised, with the tests that fail when it is false, on one proxy and on three.
package promises

import (
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Check reads PROMISES.md in the directory of the package under test, and fails the test if it has fewer rows than
// least, or if a row lacks tests, or names some that do not exist. elsewhere are the directories of other packages,
// by the word that stands before the names of their tests.
func Check(t testing.TB, least int, elsewhere map[string]string) {
	t.Helper()
	promises := read(t)
	if len(promises) < least {
		t.Fatalf("PROMISES.md has %d rows, want %d at least", len(promises), least)
	}
	sources := Sources{"": readSource(t, ".")}
	for word, dir := range elsewhere {
		sources[word] = readSource(t, dir)
	}
	for i, p := range promises {
		if p.number != strconv.Itoa(i+1) {
			t.Errorf("row %d has the number %s", i+1, p.number)
		}
		tests := 0
		for _, column := range []struct{ cell, other, reason string }{
			{p.one, "three proxies|ThreeProxies", "needs two"},
			{p.three, "one proxy|OneProxy", "concerns one process"},
		} {
			names := names(column.cell)
			tests += len(names)
			if len(names) == 0 && !strings.HasPrefix(column.cell, column.reason) {
				t.Errorf("%s. %s\nhas no test, and not the reason %q: %q", p.number, p.text, column.reason, column.cell)
			}
			for _, name := range names {
				if regexp.MustCompile(column.other).MatchString(name) {
					t.Errorf("%s. %s\n%s stands in the wrong column", p.number, p.text, name)
				}
				if err := sources.Find(name); err != nil {
					t.Errorf("%s. %s\n%v", p.number, p.text, err)
				}
			}
		}
		if tests == 0 {
			t.Errorf("%s. %s\nhas no test at all", p.number, p.text)
		}
	}
}

// promise is a row of PROMISES.md.
type promise struct {
	number, text string
	one, three   string // the tests on one proxy and on three, or why there are none
}

func read(t testing.TB) []promise {
	t.Helper()
	text, err := os.ReadFile("PROMISES.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []promise
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		if !strings.HasPrefix(line, "| ") || cells[0] == "#" {
			continue
		}
		if len(cells) != 4 {
			t.Fatalf("%d cells, want 4: %s", len(cells), line)
		}
		all = append(all, promise{cells[0], cells[1], cells[2], cells[3]})
	}
	return all
}

// Sources are packages of tests, by the word before the names of their tests; none: the package under test.
type Sources map[string]*source

// ReadSources is for tests of the check itself.
func ReadSources(t testing.TB) Sources {
	t.Helper()
	return Sources{"": readSource(t, ".")}
}

// names are the tests in a cell, each between backquotes.
func names(cell string) []string {
	var all []string
	for _, found := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
		all = append(all, found[1])
	}
	return all
}

// Find looks for a test, package.TestX/subtest.
func (sources Sources) Find(name string) error {
	test, subtest, _ := strings.Cut(name, "/")
	word, rest, found := strings.Cut(test, ".")
	if !found {
		word, rest = "", test
	}
	s := sources[word]
	if s == nil {
		return fmt.Errorf("%s: no package %q is known", name, word)
	}
	function, ok := s.declared[rest].(*ast.FuncDecl)
	if !ok || !strings.HasPrefix(rest, "Test") {
		return fmt.Errorf("there is no test %s", name)
	}
	if subtest == "" {
		return nil
	}
	found = s.reach(function, map[ast.Node]bool{}, subtest)
	for _, suffix := range []string{", one proxy", ", three proxies"} { // stage.OnOneAndThree
		if short, cut := strings.CutSuffix(subtest, suffix); cut {
			found = found || s.reach(function, map[ast.Node]bool{}, short)
		}
	}
	if !found {
		return fmt.Errorf("%s has no subtest %q", test, subtest)
	}
	return nil
}

// source is what a package declares: functions and variables.
type source struct {
	declared map[string]ast.Node
}

func readSource(t testing.TB, dir string) *source {
	t.Helper()
	s := &source{declared: map[string]ast.Node{}}
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in %s: %v", dir, err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(gotoken.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil {
					s.declared[d.Name.Name] = d
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if v, ok := spec.(*ast.ValueSpec); ok {
						for _, name := range v.Names {
							s.declared[name.Name] = v
						}
					}
				}
			}
		}
	}
	return s
}

// reach reports whether a subtest of this name is run by node, or by what it mentions: the name is the
// first string of a Run or OnOneAndThree, or the name or key of an element of a table.
func (s *source) reach(node ast.Node, seen map[ast.Node]bool, subtest string) bool {
	if seen[node] {
		return false
	}
	seen[node] = true
	found := false
	is := func(e ast.Expr) {
		if literal, ok := e.(*ast.BasicLit); ok && literal.Kind == gotoken.STRING {
			text, err := strconv.Unquote(literal.Value)
			found = found || err == nil && text == subtest
		}
	}
	ast.Inspect(node, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.SelectorExpr); ok {
				switch {
				case f.Sel.Name == "Run" && len(n.Args) == 2:
					is(n.Args[0])
				case f.Sel.Name == "OnOneAndThree":
					is(n.Args[1])
				}
			}
		case *ast.CompositeLit:
			for i, e := range n.Elts {
				switch pair, ok := e.(*ast.KeyValueExpr); {
				case !ok && i == 0:
					is(e)
				case ok:
					is(pair.Key)
					if key, ok := pair.Key.(*ast.Ident); ok && strings.EqualFold(key.Name, "name") {
						is(pair.Value)
					}
				}
			}
		case *ast.Ident:
			if d := s.declared[n.Name]; d != nil && !found {
				found = s.reach(d, seen, subtest)
			}
		}
		return !found
	})
	return found
}
