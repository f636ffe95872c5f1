package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// invocation is a command line taken apart.
type invocation struct {
	action string     // "", help, version, check-config
	file   string     // configuration file; empty: none
	stdin  bool       // "-": read configuration from standard input, too
	flags  [][]string // directives with their values, in order
}

var actions = []string{"help", "version", "check-config"}

// parseArgs takes a command line apart as redis-server does: a configuration file
// first, "-" first or last for standard input, then directives. The words behind
// one are its values, up to the next that begins with "--"; its first value may
// begin so, too. One argument may hold a directive and its values ("--port 6380").
//
// Errors don't repeat arguments that are not directives: they might be an URL
// with a password in it.
func parseArgs(args []string) (*invocation, error) {
	inv := &invocation{}
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		if strings.Contains(args[0], "://") {
			return nil, errors.New("command line: the first argument is an URL; write --upstream before it")
		}
		inv.file, args = args[0], args[1:]
	}
	takesValue := false // the last directive has no value yet
	for i, arg := range args {
		name, isFlag := strings.CutPrefix(arg, "--")
		switch {
		case arg == "-" && (i == 0 || i == len(args)-1) && !takesValue:
			inv.stdin = true
		case isFlag && !takesValue && slices.Contains(actions, name):
			inv.action = name
		case isFlag && !takesValue:
			words, err := flagName(name)
			if err != nil {
				return nil, err
			}
			inv.flags = append(inv.flags, words)
			takesValue = len(words) == 1
		case arg == "-h" || arg == "-v":
			inv.action = map[string]string{"-h": "help", "-v": "version"}[arg]
		case len(inv.flags) == 0:
			return nil, errors.New("command line: a directive begins with --, such as --port 6380; see --help")
		default:
			last := len(inv.flags) - 1
			inv.flags[last] = append(inv.flags[last], arg)
			takesValue = false
		}
	}
	return inv, nil
}

// flagName splits what follows "--".
func flagName(s string) ([]string, error) {
	words, err := splitWords(s)
	if err != nil {
		return nil, fmt.Errorf("command line: --%s: %w", nameOnly(s), err)
	}
	if len(words) == 0 {
		return nil, errors.New("command line: a directive must follow --")
	}
	return words, nil
}
