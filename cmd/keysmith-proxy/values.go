package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The setters below take the words behind a directive's name. Their errors say
// what is wrong and what would be right; the caller adds place and name. Those
// that may see a password (text, setUpstream) never repeat what they were given.

type setter = func(c *config, words []string) error

// maxBind is CONFIG_BINDADDR_MAX of Redis's server.h.
const maxBind = 16

// one returns the only word, or an error that says how many there are.
func one(words []string) (string, error) {
	switch {
	case len(words) == 1:
		return words[0], nil
	case len(words) == 0:
		return "", errors.New("its value is missing")
	case len(words) > 1 && strings.HasPrefix(words[1], "#"):
		return "", errors.New("takes one value; a comment needs a line of its own")
	}
	return "", fmt.Errorf("takes one value and got %d; quote a value that contains blanks", len(words))
}

func text(field func(*config) *string) setter {
	return func(c *config, words []string) error {
		word, err := one(words)
		if err != nil {
			return err
		}
		if strings.IndexByte(word, 0) >= 0 {
			return errors.New("contains a NUL byte")
		}
		*field(c) = word
		return nil
	}
}

func number(field func(*config) *int, lo, hi int64) setter {
	return func(c *config, words []string) error {
		n, err := parseNumber(words, lo, hi)
		if err == nil {
			*field(c) = int(n)
		}
		return err
	}
}

// duration takes a whole number of units. What exceeds time.Duration (292 years)
// becomes the longest one.
func duration(field func(*config) *time.Duration, unit time.Duration, lo, hi int64) setter {
	return func(c *config, words []string) error {
		n, err := parseNumber(words, lo, hi)
		if err == nil {
			*field(c) = time.Duration(min(n, math.MaxInt64/int64(unit))) * unit
		}
		return err
	}
}

func parseNumber(words []string, lo, hi int64) (int64, error) {
	word, err := one(words)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(word, 10, 64)
	if errors.Is(err, strconv.ErrSyntax) {
		return 0, fmt.Errorf("%s is not a whole number; write one from %d to %d, without a unit", show(word), lo, hi)
	}
	if err != nil || n < lo || n > hi {
		return 0, fmt.Errorf("%s is out of range; write a number from %d to %d", show(word), lo, hi)
	}
	return n, nil
}

func choice(field func(*config) *string, choices ...string) setter {
	return func(c *config, words []string) error {
		word, err := oneOf(words, choices...)
		if err == nil {
			*field(c) = word
		}
		return err
	}
}

func yesNo(field func(*config) *bool) setter {
	return func(c *config, words []string) error {
		word, err := oneOf(words, "yes", "no")
		if err == nil {
			*field(c) = word == "yes"
		}
		return err
	}
}

// oneOf returns the one of choices that the only word is, in whatever case.
func oneOf(words []string, choices ...string) (string, error) {
	word, err := one(words)
	if err != nil {
		return "", err
	}
	if low := strings.ToLower(word); slices.Contains(choices, low) {
		return low, nil
	}
	return "", fmt.Errorf("%s is none of its values; write %s", show(word), either(choices))
}

func setBind(c *config, words []string) error {
	if len(words) == 0 {
		return errors.New(`its value is missing; write addresses separated by blanks, or "" for none`)
	}
	if len(words) == 1 && words[0] == "" {
		c.bind = nil
		return nil
	}
	if len(words) > maxBind {
		return fmt.Errorf("%d addresses are too many; at most %d are possible", len(words), maxBind)
	}
	for _, w := range words {
		if err := checkBind(w); err != nil {
			return err
		}
	}
	c.bind = words
	return nil
}

func checkBind(word string) error {
	addr := strings.TrimPrefix(word, "-")
	switch {
	case addr == "":
		return fmt.Errorf("%s is not an address", show(word))
	case strings.HasPrefix(addr, "#"):
		return errors.New("a comment needs a line of its own")
	case strings.HasPrefix(addr, "["), strings.Count(addr, ":") == 1, strings.ContainsAny(addr, "/,; \x00"):
		return fmt.Errorf("%s is not an address; write addresses separated by blanks, without port (see port) and brackets", show(word))
	}
	return nil
}

func setUnixSocketPerm(c *config, words []string) error {
	word, err := one(words)
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(word, 8, 32)
	if err != nil || n > 0o777 {
		return fmt.Errorf("%s are no permissions; write three octal digits as for chmod, such as 770", show(word))
	}
	c.unixSocketPerm = fs.FileMode(n)
	return nil
}

func setThreads(c *config, words []string) error {
	if len(words) == 1 && strings.EqualFold(words[0], "auto") {
		c.threads = 0
		return nil
	}
	n, err := parseNumber(words, 1, 1024)
	if err != nil {
		return fmt.Errorf(`%w or auto`, err)
	}
	c.threads = int(n)
	return nil
}

func setLogLevel(c *config, words []string) error {
	word, err := oneOf(words, levelNames...)
	if err == nil {
		c.logLevel = []slog.Level{levelDebug, levelVerbose, levelNotice, levelWarning}[slices.Index(levelNames, word)]
	}
	return err
}

func setUpstream(c *config, words []string) error {
	word, err := one(words)
	if err != nil {
		return err
	}
	u, err := parseUpstream(word)
	if err == nil {
		c.upstream = u
	}
	return err
}

// show quotes a wrong value for an error message, not more of it than helps, and
// no URL: it got to the wrong directive, but there may be a password in it.
func show(word string) string {
	const enough = 60
	if strings.Contains(word, "://") {
		return "the URL given"
	}
	if len(word) > enough {
		return strconv.Quote(word[:enough]) + "..."
	}
	return strconv.Quote(word)
}

// either joins choices as a sentence does: a, b or c.
func either(choices []string) string {
	last := len(choices) - 1
	if last < 1 {
		return strings.Join(choices, "")
	}
	return strings.Join(choices[:last], ", ") + " or " + choices[last]
}
