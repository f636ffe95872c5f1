package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxDepth bounds how deep files include one another.
	maxDepth = 16
	// maxFileSize bounds a configuration file, for those who include a device.
	maxFileSize = 16 << 20
	// maxProblems is how many problems are reported at once.
	maxProblems = 20
)

// origin is where something was written.
type origin struct {
	file string // as the user named it; "standard input"; empty on the command line
	line int    // from 1; 0: the file as a whole
	flag bool   // on the command line
}

// problem is one thing that is wrong with the configuration.
type problem struct {
	at        origin
	directive string // empty: none in particular
	err       error
}

// Error reads file:line: directive: what is wrong; what would be right.
func (p *problem) Error() string {
	var b strings.Builder
	if p.at.flag {
		b.WriteString("command line: ")
	} else if p.at.file != "" {
		b.WriteString(p.at.file)
		if p.at.line > 0 {
			b.WriteString(":" + strconv.Itoa(p.at.line))
		}
		b.WriteString(": ")
	}
	if p.directive != "" {
		if p.at.flag {
			b.WriteString("--")
		}
		b.WriteString(p.directive + ": ")
	}
	return b.String() + p.err.Error()
}

func (p *problem) Unwrap() error { return p.err }

// wrong returns a problem of a directive, at the place where it was set last.
func (c *config) wrong(directive, format string, args ...any) error {
	return &problem{c.origins[directive], directive, fmt.Errorf(format, args...)}
}

// loader applies lines to a configuration and gathers what is wrong with them.
type loader struct {
	cfg      *config
	open     []string // absolute names of the files being read, outermost first
	problems []error
}

// load returns the configuration of the invocation: the defaults, over them the
// file, standard input, and the flags. Its error holds all problems found, one a
// line, none of them with a secret in it.
func load(inv *invocation, stdin io.Reader) (*config, error) {
	l := &loader{cfg: defaults()}
	if inv.file != "" {
		l.file(inv.file, origin{file: inv.file})
	}
	if inv.stdin {
		l.text(stdin, "standard input")
	}
	for _, words := range inv.flags {
		l.line(words, origin{flag: true})
	}
	if len(l.problems) == 0 {
		l.problems = l.cfg.check()
	}
	if n := len(l.problems); n > maxProblems {
		l.problems = append(l.problems[:maxProblems], fmt.Errorf("... and %d more", n-maxProblems))
	}
	return l.cfg, errors.Join(l.problems...)
}

func (l *loader) fail(at origin, directive, format string, args ...any) {
	l.problems = append(l.problems, &problem{at, directive, fmt.Errorf(format, args...)})
}

// include reads the files that pattern matches. As in Redis, a relative pattern
// starts at the working directory, and one with wildcards may match nothing.
func (l *loader) include(words []string, at origin) {
	pattern, err := one(words)
	if err != nil {
		l.fail(at, "include", "%w", err)
		return
	}
	if !strings.ContainsAny(pattern, "*?[") {
		l.file(pattern, at)
		return
	}
	files, err := filepath.Glob(pattern)
	if err != nil {
		l.fail(at, "include", "%s is not a pattern; write a file name, or one with *, ? and [...]", show(pattern))
	}
	for _, f := range files {
		l.file(f, at)
	}
}

// file reads one file; at says who wants it.
func (l *loader) file(name string, at origin) {
	directive := ""
	if len(l.open) > 0 || at.flag || at.line > 0 {
		directive = "include"
	}
	abs, err := filepath.Abs(name)
	switch {
	case err != nil:
		l.fail(at, directive, "%w", err)
		return
	case slices.Contains(l.open, abs):
		l.fail(at, directive, "%s includes itself", show(name))
		return
	case len(l.open) == maxDepth:
		l.fail(at, directive, "files include one another more than %d deep", maxDepth)
		return
	}
	f, err := os.Open(name)
	if err != nil {
		l.fail(at, directive, "%s", cantOpen(name, directive, err))
		return
	}
	defer f.Close()
	l.open = append(l.open, abs)
	l.text(f, name)
	l.open = l.open[:len(l.open)-1]
}

func cantOpen(name, directive string, err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	if directive == "" {
		return "can't open the configuration file: " + err.Error()
	}
	hint := ""
	if !filepath.IsAbs(name) {
		hint = "; a relative name starts at the working directory"
	}
	return fmt.Sprintf("can't open %s: %v%s", show(name), err, hint)
}

// text applies the lines of r, which the user knows as name.
func (l *loader) text(r io.Reader, name string) {
	all, err := io.ReadAll(io.LimitReader(r, maxFileSize+1))
	if err != nil {
		l.fail(origin{file: name}, "", "can't read the configuration: %w", errors.Unwrap(err))
		return
	}
	if len(all) > maxFileSize {
		l.fail(origin{file: name}, "", "too large for a configuration file (more than %d MB)", maxFileSize>>20)
		return
	}
	n := 0
	for line := range strings.SplitSeq(string(all), "\n") {
		n++
		if line = strings.Trim(line, " \t\r\n"); line == "" || line[0] == '#' {
			continue
		}
		at := origin{file: name, line: n}
		words, err := splitWords(line)
		if err != nil {
			first, _, _ := strings.Cut(line, " ")
			l.fail(at, nameOnly(first), "%w", err)
			continue
		}
		l.line(words, at)
	}
}

// line applies one directive.
func (l *loader) line(words []string, at origin) {
	if len(words) == 0 {
		return
	}
	name := strings.ToLower(words[0])
	if name == "include" {
		l.include(words[1:], at)
		return
	}
	d := lookup(name)
	if d == nil {
		l.fail(at, "", "%s", unknown(name))
		return
	}
	if err := d.set(l.cfg, words[1:]); err != nil {
		l.fail(at, d.name, "%w", err)
		return
	}
	l.cfg.origins[d.name] = at
}
