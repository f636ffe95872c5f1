package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"text/tabwriter"
)

// version is set by the linker (-X main.version=v1.2.3) for a release build.
var version = ""

// versionLine tells what this binary is built of.
func versionLine() string {
	v, revision := version, ""
	if info, ok := debug.ReadBuildInfo(); ok {
		if v == "" {
			v = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = " revision=" + s.Value[:min(len(s.Value), 12)]
			}
		}
	}
	if v == "" {
		v = "(devel)"
	}
	return fmt.Sprintf("keysmith-proxy v=%s%s %s %s/%s", v, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// moduleVersion returns the version of a module that this binary is built with,
// if it knows.
func moduleVersion(path string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == path {
				return m.Version
			}
		}
	}
	return ""
}

const usage = `Usage: keysmith-proxy [redis.conf] [--directive value ...]
       keysmith-proxy - [--directive value ...]     (configuration from standard input)
       keysmith-proxy ... --check-config            (0: all right, 1: not, and why)
       keysmith-proxy lock [options] name -- command ...  (flock(1) for many machines; lock --help)
       keysmith-proxy --help | --version

A Redis proxy with distributed locks (KS.LOCK) and memo locks (KS.MEMO). Clients
connect to it as they would to Redis.

Examples:
       keysmith-proxy                                (an embedded Redis, to try it)
       keysmith-proxy --upstream redis://127.0.0.1:6379
       keysmith-proxy /etc/keysmith-proxy/redis.conf --loglevel verbose

Directives, in the file as "port 6380", as a flag (which wins) as "--port 6380":
`

func printHelp(w io.Writer) {
	fmt.Fprint(w, usage)
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, d := range directives {
		fmt.Fprintf(tab, "  %s %s\t[%s]\t%s\n", d.name, d.usage, d.deflt, d.doc)
	}
	tab.Flush()
	fmt.Fprintln(w, "\nA file may include others: include path-or-pattern")
}
