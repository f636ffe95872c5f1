package main

import (
	"reflect"
	"testing"
)

func TestACommandLineIsTakenApartAsByRedis(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want invocation
	}{
		{nil, invocation{}},
		{[]string{"a.conf"}, invocation{file: "a.conf"}},
		{[]string{"a.conf", "--port", "1"}, invocation{file: "a.conf", flags: [][]string{{"port", "1"}}}},
		{[]string{"--port", "1", "--bind", "a", "-b", "c"}, invocation{flags: [][]string{{"port", "1"}, {"bind", "a", "-b", "c"}}}},
		{[]string{"--port 1", "--timeout", "2"}, invocation{flags: [][]string{{"port", "1"}, {"timeout", "2"}}}},
		{[]string{"--bind 'a' \"b\"", "c"}, invocation{flags: [][]string{{"bind", "a", "b", "c"}}}},
		{[]string{"--upstream-password", "--x y"}, invocation{flags: [][]string{{"upstream-password", "--x y"}}}},
		{[]string{"--logfile", "", "--port", "1"}, invocation{flags: [][]string{{"logfile", ""}, {"port", "1"}}}},
		{[]string{"-"}, invocation{stdin: true}},
		{[]string{"-", "--port", "1"}, invocation{stdin: true, flags: [][]string{{"port", "1"}}}},
		{[]string{"a.conf", "--port", "1", "-"}, invocation{file: "a.conf", stdin: true, flags: [][]string{{"port", "1"}}}},
		{[]string{"a.conf", "-"}, invocation{file: "a.conf", stdin: true}},
		{[]string{"a.conf", "--check-config"}, invocation{action: "check-config", file: "a.conf"}},
		{[]string{"--port", "1", "--check-config", "--bind", "a"}, invocation{action: "check-config", flags: [][]string{{"port", "1"}, {"bind", "a"}}}},
		{[]string{"--help"}, invocation{action: "help"}},
		{[]string{"-h"}, invocation{action: "help"}},
		{[]string{"-v"}, invocation{action: "version"}},
		{[]string{"--version"}, invocation{action: "version"}},
	} {
		got, err := parseArgs(tt.args)
		if err != nil || !reflect.DeepEqual(*got, tt.want) {
			t.Errorf("%q: got %+v, %v; want %+v", tt.args, got, err, tt.want)
		}
	}
}

func TestAWrongCommandLineIsToldWithoutItsSecrets(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"a.conf", "secret"}, "command line: a directive begins with --, such as --port 6380; see --help"},
		{[]string{"-p", "1"}, "command line: a directive begins with --, such as --port 6380; see --help"},
		{[]string{"--"}, "command line: a directive must follow --"},
		{[]string{"redis://:secret@h"}, "command line: the first argument is an URL; write --upstream before it"},
		{[]string{`--upstream-password "secret`}, "command line: --upstream-password: " + errQuotes.Error()},
	} {
		_, err := parseArgs(tt.args)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%q: got %v, want %s", tt.args, err, tt.want)
		}
	}
}
