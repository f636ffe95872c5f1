package main

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// runToEnd runs a command line that ends by itself.
func runToEnd(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), args, &out, &errs)
	return status, out.String(), errs.String()
}

func TestHelpListsEveryDirectiveWithItsDefault(t *testing.T) {
	status, out, errs := runToEnd(t, "--help")
	if status != 0 || errs != "" {
		t.Errorf("status %d, %s", status, errs)
	}
	for _, d := range directives {
		line := regexp.MustCompile(`(?m)^  ` + regexp.QuoteMeta(d.name+" "+d.usage) + ` +\[` + regexp.QuoteMeta(d.deflt) + `\] +\S`)
		if !line.MatchString(out) {
			t.Errorf("no line for %s", d.name)
		}
	}
}

func TestVersionIsOneLine(t *testing.T) {
	status, out, errs := runToEnd(t, "--version")
	if status != 0 || errs != "" || !regexp.MustCompile(`^keysmith-proxy v=\S+ .*go1\.\S+ \S+/\S+\n$`).MatchString(out) {
		t.Errorf("status %d, %q, %q", status, out, errs)
	}
}

func TestCheckConfigTellsByItsStatus(t *testing.T) {
	good := writeFile(t, t.TempDir(), "good.conf", "port 7000\nupstream redis://u:hunter2@h")
	bad := writeFile(t, t.TempDir(), "bad.conf", "port 7000\nprot 7")
	if status, out, errs := runToEnd(t, good, "--check-config"); status != 0 || out != "the configuration is right\n" || errs != "" {
		t.Errorf("status %d, %q, %q", status, out, errs)
	}
	status, out, errs := runToEnd(t, bad, "--check-config")
	want := "keysmith-proxy: can't start:\n" + bad + ":2: unknown directive \"prot\"; did you mean port?\n"
	if status != 1 || out != "" || errs != want {
		t.Errorf("status %d, %q, %q", status, out, errs)
	}
	if status, _, errs := runToEnd(t, good, "--check-config", "--port", "x"); status != 1 || !strings.Contains(errs, "command line: --port: ") {
		t.Errorf("status %d, %q", status, errs)
	}
	missing := filepath.Join(t.TempDir(), "none.conf")
	if status, _, errs := runToEnd(t, missing); status != 1 || !strings.Contains(errs, missing+": can't open the configuration file: no such file or directory") {
		t.Errorf("status %d, %q", status, errs)
	}
}

func TestNoMessageEverShowsAPassword(t *testing.T) {
	const secret = "hunter2"
	for _, text := range []string{
		"upstream redis://u:hunter2@h",
		"upstream redis://u:hunter2@h:x",
		"upstream redis://u:hunter2@h:1/0",
		"upstream redis://u:hunter2@h:1?db=1",
		"upstream redis://u:hunter2",
		"upstream redis://hunter2@h",
		"upstream redis://u:%zzhunter2@h",
		"upstream redis://u:hunter2@[::1",
		"upstream redis://u:p hunter2@h",
		"upstream rediss:/u:hunter2@h",
		"upstream u:hunter2@h",
		"upstream unix://u:hunter2@s",
		`upstream "redis://u:hunter2@h`,
		`upstream "redis://u:"hunter2@h`,
		`upstream "redis://u:p\x00hunter2@h"`,
		"upstream redis://h hunter2",
		"upstream-password hunter2 more",
		"upstream-password p hunter2",
		"upstream-password 'hunter2",
		"upstream-password=hunter2",
		"upstream-password:hunter2",
		"upstream-pasword hunter2",
		`"upstream-password hunter2"`,
		`"upstream-password hunter2`,
		"upstream=redis://u:hunter2@h",
		"upstream-user u:hunter2 x",
		"requirepass hunter2",
		"masterauth hunter2",
		"user default >hunter2",
		"port redis://u:hunter2@h",
		"bind redis://u:hunter2@h",
		"loglevel redis://u:hunter2@h",
		"threads redis://u:hunter2@h",
		"unixsocketperm redis://u:hunter2@h",
		"include redis://u:hunter2@h",
	} {
		file := writeFile(t, t.TempDir(), "redis.conf", text)
		name, value, _ := strings.Cut(text, " ")
		commands := [][]string{
			{file, "--check-config"},
			{"--check-config", "--" + text},
			{"--check-config", "--" + name, value},
		}
		if strings.Contains(value, "://") { // as if --upstream were forgotten
			commands = append(commands, []string{value, "--check-config"}, []string{file, value, "--check-config"})
		}
		for _, args := range commands {
			if _, out, errs := runToEnd(t, args...); strings.Contains(out+errs, secret) {
				t.Errorf("%q: %s%s", args, out, errs)
			}
		}
	}
}

func TestTheExampleIsTheDefaultConfigurationAndDocumentsEveryDirective(t *testing.T) {
	const example = "../../redis.conf.example"
	inv, err := parseArgs([]string{example})
	if err != nil {
		t.Fatal(err)
	}
	c, err := load(inv, nil)
	if err != nil {
		t.Fatal(err)
	}
	written := c.origins
	c.origins = defaults().origins
	if !reflect.DeepEqual(c, defaults()) {
		t.Errorf("got\n%+v, the defaults are\n%+v", c, defaults())
	}
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for _, d := range directives {
		at, ok := written[d.name]
		if !ok {
			t.Errorf("%s is missing", d.name)
			continue
		}
		if got, want := lines[at.line-1], d.name+" "+d.deflt; got != want {
			t.Errorf("line %d is %q, want %q", at.line, got, want)
		}
		if n := strings.Count("\n"+string(text), "\n"+d.name+" "); n != 1 {
			t.Errorf("%s stands %d times", d.name, n)
		}
		if !explained(lines[:at.line-1]) {
			t.Errorf("no comment stands above %s", d.name)
		}
	}
}

// explained reports whether a comment stands above the last of lines and the
// directives that follow one another there.
func explained(lines []string) bool {
	for i := len(lines) - 1; i >= 0 && lines[i] != ""; i-- {
		if strings.HasPrefix(lines[i], "# ") {
			return true
		}
	}
	return false
}
