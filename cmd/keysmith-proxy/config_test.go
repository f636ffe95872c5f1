package main

import (
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// loadText loads a configuration file with that text.
func loadText(t *testing.T, text string, flags ...string) (*config, error) {
	t.Helper()
	file := writeFile(t, t.TempDir(), "redis.conf", text)
	inv, err := parseArgs(append([]string{file}, flags...))
	if err != nil {
		t.Fatal(err)
	}
	c, err := load(inv, strings.NewReader(""))
	return c, shorten(err, filepath.Dir(file)+"/")
}

// shortened is an error without the directory of the test in it.
type shortened string

func (e shortened) Error() string { return string(e) }

func shorten(err error, dir string) error {
	if err == nil {
		return nil
	}
	return shortened(strings.ReplaceAll(err.Error(), dir, ""))
}

func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAnEmptyFileMeansTheDefaults(t *testing.T) {
	got, err := loadText(t, "\n# nothing\n   \t\n")
	if err != nil {
		t.Fatal(err)
	}
	want := &config{
		bind: []string{"127.0.0.1", "-::1"}, port: 6380,
		tlsAuthClients: "yes", protectedMode: true,
		upstream:   upstreamURL{scheme: "embedded"},
		maxClients: 10000, tcpKeepAlive: 300 * time.Second,
		logLevel: levelNotice, lockTTL: 30 * time.Second,
		tagSplit: "first", interop: "no",
		origins: map[string]origin{},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v, want\n%+v", got, want)
	}
}

func TestEachDirectiveSetsWhatItNames(t *testing.T) {
	for _, tt := range []struct {
		line string
		got  func(c *config) any
		want any
	}{
		{`bind 10.0.0.1 -::2 * ::*`, func(c *config) any { return c.bind }, []string{"10.0.0.1", "-::2", "*", "::*"}},
		{"bind \"\"\nunixsocket /s", func(c *config) any { return len(c.bind) }, 0},
		{`port 1`, func(c *config) any { return c.port }, 1},
		{`PORT 65535`, func(c *config) any { return c.port }, 65535},
		{`unixsocket "/run/a b"`, func(c *config) any { return c.unixSocket }, "/run/a b"},
		{`unixsocketperm 770`, func(c *config) any { return c.unixSocketPerm }, fs.FileMode(0o770)},
		{`tls-cert-file c`, func(c *config) any { return c.tlsCertFile }, "c"},
		{`tls-key-file k`, func(c *config) any { return c.tlsKeyFile }, "k"},
		{`tls-ca-cert-file a`, func(c *config) any { return c.tlsCACertFile }, "a"},
		{`tls-auth-clients Optional`, func(c *config) any { return c.tlsAuthClients }, "optional"},
		{`protected-mode NO`, func(c *config) any { return c.protectedMode }, false},
		{`upstream redis://h`, func(c *config) any { return c.upstream.String() }, "redis://h:6379"},
		{"upstream-user u\nupstream-password p", func(c *config) any { return c.upstreamUser }, "u"},
		{`upstream-password "p \x41"`, func(c *config) any { return c.upstreamPassword }, "p A"},
		{`upstream-tls-ca-cert-file a`, func(c *config) any { return c.upstreamTLSCACertFile }, "a"},
		{`upstream-tls-cert-file c`, func(c *config) any { return c.upstreamTLSCertFile }, "c"},
		{`upstream-tls-key-file k`, func(c *config) any { return c.upstreamTLSKeyFile }, "k"},
		{`upstream-tls-server-name n`, func(c *config) any { return c.upstreamTLSServerName }, "n"},
		{`upstream-tls-insecure yes`, func(c *config) any { return c.upstreamTLSInsecure }, true},
		{`maxclients 4294967295`, func(c *config) any { return c.maxClients }, math.MaxUint32},
		{`timeout 90`, func(c *config) any { return c.timeout }, 90 * time.Second},
		{`tcp-keepalive 0`, func(c *config) any { return c.tcpKeepAlive }, time.Duration(0)},
		{`threads 3`, func(c *config) any { return c.threads }, 3},
		{`loglevel verbose`, func(c *config) any { return c.logLevel }, levelVerbose},
		{`loglevel warning`, func(c *config) any { return c.logLevel }, levelWarning},
		{`logfile /var/log/x`, func(c *config) any { return c.logFile }, "/var/log/x"},
		{`ks-lock-ttl 1000`, func(c *config) any { return c.lockTTL }, time.Second},
		{`ks-lock-ttl 9007199254740992`, func(c *config) any { return c.lockTTL }, math.MaxInt64 / time.Millisecond * time.Millisecond},
		{`ks-lock-wait 1`, func(c *config) any { return c.lockWait }, time.Millisecond},
		{`ks-tag-split last`, func(c *config) any { return c.tagSplit }, "last"},
		{`ks-interop keysmith`, func(c *config) any { return c.interop }, "keysmith"},
		{"tls-port 7\ntls-cert-file", func(c *config) any { return c.tlsPort }, 7}, // wrong in its second line
	} {
		c, _ := loadText(t, tt.line)
		if got := tt.got(c); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.line, got, tt.want)
		}
	}
}

func TestEveryDirectiveIsTested(t *testing.T) {
	source, err := os.ReadFile("config_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range directiveNames() {
		if !strings.Contains(string(source), "`"+name+" ") && !strings.Contains(string(source), `"`+name+" ") {
			t.Errorf("no test sets %s", name)
		}
	}
}

func TestWrongInputIsNamedWithItsPlaceAndWhatWouldBeRight(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"\n# x\nport 65536", `redis.conf:3: port: "65536" is out of range; write a number from 0 to 65535`},
		{"port -1", `redis.conf:1: port: "-1" is out of range; write a number from 0 to 65535`},
		{"port six", `redis.conf:1: port: "six" is not a whole number; write one from 0 to 65535, without a unit`},
		{"timeout 10s", `redis.conf:1: timeout: "10s" is not a whole number; write one from 0 to 2147483647, without a unit`},
		{"port 99999999999999999999", `redis.conf:1: port: "99999999999999999999" is out of range; write a number from 0 to 65535`},
		{"port", `redis.conf:1: port: its value is missing`},
		{"port 1 2", `redis.conf:1: port: takes one value and got 2; quote a value that contains blanks`},
		{"port 1 # the port", `redis.conf:1: port: takes one value; a comment needs a line of its own`},
		{`port "1`, `redis.conf:1: port: unbalanced quotes; a quoted value ends with the quote it began with, and a blank or the end of the line follows`},
		{"protected-mode on", `redis.conf:1: protected-mode: "on" is none of its values; write yes or no`},
		{"tls-auth-clients maybe", `redis.conf:1: tls-auth-clients: "maybe" is none of its values; write yes, no or optional`},
		{"loglevel nothing", `redis.conf:1: loglevel: "nothing" is none of its values; write debug, verbose, notice or warning`},
		{"unixsocketperm 778", `redis.conf:1: unixsocketperm: "778" are no permissions; write three octal digits as for chmod, such as 770`},
		{"unixsocketperm 1777", `redis.conf:1: unixsocketperm: "1777" are no permissions; write three octal digits as for chmod, such as 770`},
		{"threads 0", `redis.conf:1: threads: "0" is out of range; write a number from 1 to 1024 or auto`},
		{"maxclients 0", `redis.conf:1: maxclients: "0" is out of range; write a number from 1 to 4294967295`},
		{"ks-lock-ttl 999", `redis.conf:1: ks-lock-ttl: "999" is out of range; write a number from 1000 to 9007199254740992`},
		{"ks-lock-wait -1", `redis.conf:1: ks-lock-wait: "-1" is out of range; write a number from 0 to 9007199254740992`},
		{"ks-tag-split middle", `redis.conf:1: ks-tag-split: "middle" is none of its values; write first or last`},
		{"bind", `redis.conf:1: bind: its value is missing; write addresses separated by blanks, or "" for none`},
		{"bind 127.0.0.1:6380", `redis.conf:1: bind: "127.0.0.1:6380" is not an address; write addresses separated by blanks, without port (see port) and brackets`},
		{"bind 1.1.1.1,2.2.2.2", `redis.conf:1: bind: "1.1.1.1,2.2.2.2" is not an address; write addresses separated by blanks, without port (see port) and brackets`},
		{"bind [::1]", `redis.conf:1: bind: "[::1]" is not an address; write addresses separated by blanks, without port (see port) and brackets`},
		{"bind -", `redis.conf:1: bind: "-" is not an address`},
		{"bind 127.0.0.1 # here", `redis.conf:1: bind: a comment needs a line of its own`},
		{"bind" + strings.Repeat(" 127.0.0.1", 17), `redis.conf:1: bind: 17 addresses are too many; at most 16 are possible`},
		{`logfile "a\x00b"`, `redis.conf:1: logfile: contains a NUL byte`},
		{"prot 5", `redis.conf:1: unknown directive "prot"; did you mean port?`},
		{"tls_auth_clients no", `redis.conf:1: unknown directive "tls_auth_clients"; did you mean tls-auth-clients?`},
		{"max-clients 5", `redis.conf:1: unknown directive "max-clients"; did you mean maxclients?`},
		{"incldue x", `redis.conf:1: unknown directive "incldue"; did you mean include?`},
		{"completely-different 5", `redis.conf:1: unknown directive "completely-different"; --help lists all directives`},
		{"port=5", `redis.conf:1: port: a blank must separate the directive from its value`},
		{"(port 5)", `redis.conf:1: there is a line that doesn't begin with a directive; --help lists all directives`},
		{"maxmemory 1gb", `redis.conf:1: maxmemory is a directive of redis-server that keysmith-proxy doesn't have; set it on the Redis behind if it is needed`},
		{"requirepass x", `redis.conf:1: requirepass is a directive of redis-server that keysmith-proxy doesn't have; clients authenticate with the Redis behind; set it there, and upstream-password here for the proxy's own connections`},
		{"DAEMONIZE yes", `redis.conf:1: daemonize is a directive of redis-server that keysmith-proxy doesn't have; the proxy stays in the foreground; a service manager runs it in the background`},
		{"port 0", `redis.conf:1: port: there is nothing to listen on; set bind and port or tls-port, or unixsocket`},
		{`bind ""`, `port: there is nothing to listen on; set bind and port or tls-port, or unixsocket`},
		{"port 7\ntls-port 7", "redis.conf:2: tls-port: 7 is also the plain port; choose another, or port 0\nredis.conf:2: tls-port: needs a certificate; set tls-cert-file and tls-key-file"},
		{"unixsocket /" + strings.Repeat("a", 107), `redis.conf:1: unixsocket: the path has 108 bytes; a socket's may have 107 at most`},
		{"upstream-user u", `redis.conf:1: upstream-user: a user without a password; set upstream-password (for a user with nopass, to anything)`},
		{"port x\nport y", "redis.conf:1: port: \"x\" is not a whole number; write one from 0 to 65535, without a unit\n" +
			`redis.conf:2: port: "y" is not a whole number; write one from 0 to 65535, without a unit`},
	} {
		_, err := loadText(t, tt.text)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s:\n got %v\nwant %s", tt.text, err, tt.want)
		}
	}
}

func TestAFloodOfProblemsIsCut(t *testing.T) {
	_, err := loadText(t, strings.Repeat("port x\n", 100))
	if lines := strings.Split(err.Error(), "\n"); len(lines) != maxProblems+1 || lines[maxProblems] != "... and 80 more" {
		t.Errorf("%d lines, the last: %s", len(lines), lines[len(lines)-1])
	}
}

func TestTheLaterLineWinsAndFlagsWinOverTheFile(t *testing.T) {
	c, err := loadText(t, "port 1\nport 2\nbind 1.1.1.1\ntimeout 5", "--port", "3", "--bind", "2.2.2.2", "3.3.3.3")
	if err != nil {
		t.Fatal(err)
	}
	if c.port != 3 || !slices.Equal(c.bind, []string{"2.2.2.2", "3.3.3.3"}) || c.timeout != 5*time.Second {
		t.Errorf("port %d, bind %q, timeout %v", c.port, c.bind, c.timeout)
	}
	if c, err = loadText(t, "port 1\nport 2"); err != nil || c.port != 2 {
		t.Errorf("port %d, %v", c.port, err)
	}
}

func TestStandardInputWinsOverTheFileAndFlagsOverIt(t *testing.T) {
	file := writeFile(t, t.TempDir(), "redis.conf", "port 1\ntimeout 1\nmaxclients 1")
	inv, err := parseArgs([]string{file, "--maxclients", "3", "-"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := load(inv, strings.NewReader("timeout 2\nmaxclients 2"))
	if err != nil || c.port != 1 || c.timeout != 2*time.Second || c.maxClients != 3 {
		t.Errorf("port %d, timeout %v, maxclients %d, %v", c.port, c.timeout, c.maxClients, err)
	}
	_, err = load(inv, strings.NewReader("\ntimeout x"))
	if err == nil || !strings.HasPrefix(err.Error(), "standard input:2: timeout: ") {
		t.Errorf("got %v", err)
	}
}

func TestIncludeReadsFilesInPlace(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	writeFile(t, dir, "sub/b.conf", "port 2\ninclude sub/c.conf")
	writeFile(t, dir, "sub/c.conf", "timeout 9")
	writeFile(t, dir, "conf.d/10.conf", "maxclients 10\nloglevel debug")
	writeFile(t, dir, "conf.d/20.conf", "maxclients 20")
	c, err := loadText(t, "port 1\ninclude sub/b.conf\ninclude conf.d/*.conf\ninclude none/*.conf\nloglevel warning",
		"--include", filepath.Join(dir, "sub/c.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if c.port != 2 || c.timeout != 9*time.Second || c.maxClients != 20 || c.logLevel != levelWarning {
		t.Errorf("port %d, timeout %v, maxclients %d, loglevel %v", c.port, c.timeout, c.maxClients, c.logLevel)
	}
	if at := c.origins["maxclients"]; at != (origin{file: "conf.d/20.conf", line: 1}) {
		t.Errorf("origin %+v", at)
	}
}

func TestWhatIsWrongWithAnIncludeIsTold(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	writeFile(t, dir, "self.conf", "include self.conf")
	writeFile(t, dir, "a.conf", "\ninclude ./b.conf")
	writeFile(t, dir, "b.conf", "include "+dir+"/a.conf")
	writeFile(t, dir, "wrong.conf", "port 1\n\nport x")
	for i := range maxDepth + 1 {
		writeFile(t, dir, "deep"+string(rune('a'+i)), "include deep"+string(rune('a'+i+1)))
	}
	for _, tt := range []struct{ line, want string }{
		{"include none.conf", `redis.conf:1: include: can't open "none.conf": no such file or directory; a relative name starts at the working directory`},
		{"include /none.conf", `redis.conf:1: include: can't open "/none.conf": no such file or directory`},
		{"include", `redis.conf:1: include: its value is missing`},
		{"include a b", `redis.conf:1: include: takes one value and got 2; quote a value that contains blanks`},
		{"include [", `redis.conf:1: include: "[" is not a pattern; write a file name, or one with *, ? and [...]`},
		{"include self.conf", `self.conf:1: include: "self.conf" includes itself`},
		{"include a.conf", `./b.conf:1: include: "a.conf" includes itself`},
		{"include wrong.conf", `wrong.conf:3: port: "x" is not a whole number; write one from 0 to 65535, without a unit`},
		{"include deepa", `deepo:1: include: files include one another more than 16 deep`},
		{"include .", `.: can't read the configuration: is a directory`},
		{"include /dev/zero", `/dev/zero: too large for a configuration file (more than 16 MB)`},
	} {
		_, err := loadText(t, tt.line)
		if err = shorten(err, dir+"/"); err == nil || err.Error() != tt.want {
			t.Errorf("%s:\n got %v\nwant %s", tt.line, err, tt.want)
		}
	}
}

func TestAFileThatIncludesItselfUnderTheNameOfTheCommandLineIsRefused(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	writeFile(t, dir, "x.conf", "include "+dir+"/x.conf")
	inv, _ := parseArgs([]string{"x.conf"})
	_, err := load(inv, nil)
	if err == nil || !strings.Contains(err.Error(), "includes itself") {
		t.Errorf("got %v", err)
	}
}

func FuzzConfigurationNeverPanicsAndNeverShowsPasswords(f *testing.F) {
	f.Add("port 6380\nupstream redis://u:", "@h:1")
	f.Add("upstream-password ", "")
	f.Add("upstream-password=", "x")
	f.Add("upstream rediss://:", "@[::1")
	f.Add(`upstream "redis://a:`, `@h" x`)
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "hunter2hunter2"
		if strings.Contains(before, "clude") || strings.Contains(after, "clude") {
			t.Skip("would read files")
		}
		l := &loader{cfg: defaults()}
		l.text(strings.NewReader(before+secret+after), "f")
		// Only a value is secret: with an upstream or upstream-password before it.
		line := before[strings.LastIndexByte(before, '\n')+1:]
		word, rest, found := strings.Cut(strings.ToLower(strings.TrimSpace(line)), " ")
		if !found && rest == "" || word != "upstream" && word != "upstream-password" {
			return
		}
		for _, p := range l.problems {
			if strings.Contains(p.Error(), secret) {
				t.Errorf("%q: %v", before+secret+after, p)
			}
		}
	})
}
