package main

import (
	"bytes"
	"errors"
	"flag"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// environment is what os.Getenv is to parseLockArgs.
func environment(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func TestALockCommandLineIsTakenApart(t *testing.T) {
	run := []string{"cmd"}
	env := map[string]string{"SHELL": "/bin/ksh"}
	for _, tt := range []struct {
		args string
		want lockOptions
	}{
		{"a -- cmd", lockOptions{name: "a", commandLine: run}},
		{"a cmd", lockOptions{name: "a", commandLine: run}},
		{"a cmd -n -- -w", lockOptions{name: "a", commandLine: []string{"cmd", "-n", "--", "-w"}}},
		{"a -- -x -y", lockOptions{name: "a", commandLine: []string{"-x", "-y"}}},
		{"-- -a -- cmd", lockOptions{name: "-a", commandLine: run}},
		{"a -c cmd", lockOptions{name: "a", commandLine: []string{"/bin/ksh", "-c", "cmd"}}},
		{"-h redis.internal -p 7000 a cmd", lockOptions{host: "redis.internal", port: "7000", name: "a", commandLine: run}},
		{"-s /run/ks.sock a cmd", lockOptions{socket: "/run/ks.sock", name: "a", commandLine: run}},
		{"-w 1500 a cmd", lockOptions{wait: lockWait(1500 * time.Millisecond), name: "a", commandLine: run}},
		{"-w=2m a cmd", lockOptions{wait: lockWait(2 * time.Minute), name: "a", commandLine: run}},
		{"-n -E 75 -q a cmd", lockOptions{noWait: true, conflict: 75, quiet: true, name: "a", commandLine: run}},
		{"-E 0 a cmd", lockOptions{conflict: -1, name: "a", commandLine: run}},
		{"--user u --pass p --db 3 a cmd", lockOptions{user: "u", pass: "p", db: 3, name: "a", commandLine: run}},
		{"-a p a cmd", lockOptions{pass: "p", name: "a", commandLine: run}},
		{"--tls --cacert c --cert d --key e --sni f --insecure a cmd", lockOptions{
			tls:  lockTLS{on: true, insecure: true, caCert: "c", cert: "d", key: "e", sniName: "f"},
			name: "a", commandLine: run,
		}},
		{"--on-loss keep a cmd", lockOptions{onLoss: "keep", name: "a", commandLine: run}},
	} {
		want := tt.want
		if want.host == "" {
			want.host = "127.0.0.1"
		}
		if want.port == "" {
			want.port = "6380"
		}
		if want.conflict == 0 {
			want.conflict = 1
		}
		if tt.want.conflict < 0 {
			want.conflict = 0
		}
		got, err := parseLockArgs(strings.Fields(tt.args), environment(env))
		if err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%s: got %+v, %v; want %+v", tt.args, got, err, want)
		}
	}
}

func TestAWrongLockCommandLineSaysWhatWouldBeRight(t *testing.T) {
	for args, want := range map[string]string{
		"-n":                          "the name of the lock is missing",
		"a":                           "the command to run is missing",
		"a --":                        "the command to run is missing",
		"a -n cmd":                    "options such as -n go before the name",
		"a -c":                        "-c takes one argument",
		"a -c cmd arg":                "-c takes one argument",
		"-w 0 a cmd":                  "-n to not wait",
		"-w 0s a cmd":                 "-n to not wait",
		"-w soon a cmd":               "write milliseconds",
		"-w -5 a cmd":                 "write milliseconds",
		"-w 5us a cmd":                "write milliseconds",
		"-w 10 -n a cmd":              "-w can't go with it",
		"-p 70000 a cmd":              "-p: a port is a number from 1 to 65535",
		"-p x a cmd":                  "-p: a port is",
		"-E 256 a cmd":                "-E: an exit status is a number from 0 to 255",
		"--db -1 a cmd":               "--db: databases are counted from 0",
		"--user u a cmd":              "--user needs a password",
		"--cacert c a cmd":            "need --tls",
		"--tls --cert c a cmd":        "--cert and --key go together",
		"--on-loss panic a cmd":       "write term, kill or keep",
		"--nosuch a cmd":              "not defined: -nosuch",
		"--pass hunter2 -p x a cmd":   "-p: a port is",
		"--pass=hunter2 --nosuch a b": "not defined: -nosuch",
	} {
		_, err := parseLockArgs(strings.Fields(args), environment(nil))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}

func TestAPasswordComesFromTheEnvironmentUnlessGiven(t *testing.T) {
	env := environment(map[string]string{"REDISCLI_AUTH": "e"})
	for args, want := range map[string]string{"a cmd": "e", "--pass p a cmd": "p", "-a p a cmd": "p", "--user u a cmd": "e"} {
		o, err := parseLockArgs(strings.Fields(args), env)
		if err != nil || o.pass != want {
			t.Errorf("%s: %+v, %v; want the password %s", args, o, err, want)
		}
	}
}

func TestTheShellOfALockIsShWithoutSHELL(t *testing.T) {
	o, err := parseLockArgs([]string{"a", "-c", "b | c"}, environment(nil))
	if want := []string{"/bin/sh", "-c", "b | c"}; err != nil || !reflect.DeepEqual(o.commandLine, want) {
		t.Errorf("%+v, %v; want %q", o, err, want)
	}
}

func TestLockHelpGoesToStdout(t *testing.T) {
	for _, args := range [][]string{nil, {"-h"}, {"--help"}, {"-help"}, {"-n", "--help"}} {
		var out, errs bytes.Buffer
		if status := lockCommand(args, &out, &errs); status != 0 || out.String() != lockUsage || errs.Len() > 0 {
			t.Errorf("%q: status %d, %q, %q", args, status, out.String(), errs.String())
		}
	}
}

func TestLockHelpNamesEveryOption(t *testing.T) {
	new(lockOptions).flags(environment(nil)).VisitAll(func(f *flag.Flag) {
		if !regexp.MustCompile(`-` + f.Name + `\b`).MatchString(lockUsage) {
			t.Errorf("no word about -%s", f.Name)
		}
	})
}

func TestAWrongLockCommandLineExitsWith64(t *testing.T) {
	var out, errs bytes.Buffer
	if status := lockCommand([]string{"-w", "0", "a", "cmd"}, &out, &errs); status != 64 || out.Len() > 0 ||
		!strings.HasPrefix(errs.String(), "keysmith-proxy lock: ") || !strings.Contains(errs.String(), "lock --help") {
		t.Errorf("status %d, %q, %q", status, out.String(), errs.String())
	}
}

func TestALossPolicyIsOneOfThree(t *testing.T) {
	for policy, want := range map[lossPolicy]int{"": 15, "term": 15, "kill": 9, "keep": 0} {
		if got := int(policy.signal()); got != want {
			t.Errorf("%q sends %d, want %d", policy, got, want)
		}
	}
	if err := new(lossPolicy).Set(""); err == nil || errors.Is(err, flag.ErrHelp) {
		t.Errorf("an empty one: %v", err)
	}
}
