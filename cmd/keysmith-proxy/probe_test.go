package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/redcon"
)

// script answers commands by their words joined with blanks, in lower case; other
// commands get an error.
type script map[string]string

// startScripted runs a Redis that answers by a script, and returns its port.
func startScripted(t *testing.T, l net.Listener, replies script) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		redcon.Serve(l, func(conn redcon.Conn, cmd redcon.Command) {
			words := make([]string, len(cmd.Args))
			for i, a := range cmd.Args {
				words[i] = string(a)
			}
			reply, ok := replies[strings.ToLower(strings.Join(words, " "))]
			if !ok {
				conn.WriteError("ERR unknown command '" + words[0] + "'")
				return
			}
			conn.WriteRaw([]byte(reply))
		}, nil, nil)
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
}

func listenLoopback(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func init() { logRedisClient(quiet) }

func bulk(s string) string { return string(redcon.AppendBulkString(nil, s)) }

// factsOf asks a scripted Redis.
func factsOf(t *testing.T, replies script, text string) (upstreamFacts, *config) {
	t.Helper()
	l := listenLoopback(t)
	startScripted(t, l, replies)
	c, err := loadText(t, "upstream redis://"+l.Addr().String()+"\n"+text)
	if err != nil {
		t.Fatal(err)
	}
	user, password := c.credentials()
	rdb := (&upstream{url: c.upstream}).newClient(user, password)
	defer rdb.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	facts, err := askUpstream(ctx, rdb)
	if err != nil {
		t.Fatal(replies, err)
	}
	return facts, c
}

func TestRedisIsAskedForWhatItIs(t *testing.T) {
	for _, tt := range []struct {
		what    string
		replies script
		want    upstreamFacts
		name    string
	}{
		{
			"Redis",
			script{
				"info":               bulk("# Server\r\nredis_version:7.0.15\r\nexecutable:/usr/bin/redis-server\r\n\r\nmaxclients:500\r\nmaxmemory_policy:allkeys-lru\r\ncluster_enabled:1\r\n"),
				"config get timeout": "*2\r\n$7\r\ntimeout\r\n$2\r\n90\r\n",
			},
			upstreamFacts{kind: "Redis", version: "7.0.15", policy: "allkeys-lru", cluster: true, maxClients: 500, timeout: 90 * time.Second},
			"Redis 7.0.15",
		},
		{
			"Valkey without rights for CONFIG",
			script{
				"info":               bulk("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.0\r\n"),
				"config get timeout": "-NOPERM this user has no permissions to run the 'config|get' command\r\n",
			},
			upstreamFacts{kind: "Valkey", version: "8.1.0", timeout: -1},
			"Valkey 8.1.0",
		},
		{
			"KeyDB",
			script{"info": bulk("redis_version:6.3.4\r\nexecutable:/usr/bin/keydb-server\r\n")},
			upstreamFacts{kind: "KeyDB", version: "6.3.4", timeout: -1},
			"KeyDB 6.3.4",
		},
		{
			"Dragonfly",
			script{"info": bulk("redis_version:7.4.0\r\ndragonfly_version:df-v1.30\r\n"), "config get timeout": "*0\r\n"},
			upstreamFacts{kind: "Dragonfly", version: "df-v1.30", timeout: -1},
			"Dragonfly df-v1.30",
		},
		{
			"no rights at all",
			script{"info": "-NOPERM no\r\n"},
			upstreamFacts{timeout: -1},
			"a Redis that doesn't tell its version",
		},
		{
			"INFO renamed",
			script{},
			upstreamFacts{timeout: -1},
			"a Redis that doesn't tell its version",
		},
	} {
		got, _ := factsOf(t, tt.replies, "")
		if got != tt.want || got.name() != tt.name {
			t.Errorf("%s: got %+v, %s", tt.what, got, got.name())
		}
	}
}

func TestARedisThatHasNoRoomIsNotReached(t *testing.T) {
	l := listenLoopback(t)
	startScripted(t, l, script{"hello 2": "-ERR max number of clients reached\r\n", "info": "-ERR max number of clients reached\r\n"})
	u, _ := parseUpstream("redis://" + l.Addr().String())
	rdb := (&upstream{url: u}).newClient("", "")
	defer rdb.Close()
	if facts, err := askUpstream(t.Context(), rdb); err == nil {
		t.Errorf("got %+v", facts)
	}
}

func TestDangersOfTheUpstreamAreWarnedOf(t *testing.T) {
	const noauth, wrongpass = "-NOAUTH Authentication required.\r\n", "-WRONGPASS invalid username-password pair or user is disabled.\r\n"
	healthy := bulk("redis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\nmaxclients:10000\r\ncluster_enabled:0\r\n")
	for _, tt := range []struct {
		what    string
		replies script
		text    string
		want    []string // in the only warning; empty: there is none
	}{
		{"healthy", script{"info": healthy}, "", nil},
		{"eviction", script{"info": bulk("redis_version:7\r\nmaxmemory_policy:volatile-ttl\r\n")}, "", []string{"noeviction", "maxmemory-policy=volatile-ttl"}},
		{"cluster", script{"info": bulk("redis_version:7\r\ncluster_enabled:1\r\n")}, "", []string{"cluster node"}},
		{"too many clients", script{"info": healthy}, "maxclients 10001", []string{"maxclients=10001", "redis=10000"}},
		{"credentials missing", script{"hello 2": noauth, "info": noauth}, "", []string{"wants credentials", "upstream-user and upstream-password", "NOAUTH"}},
		{
			"password refused",
			script{
				"hello 2 auth default hunter2": wrongpass,
				"auth hunter2":                 wrongpass, "info": noauth,
			},
			"upstream-password hunter2",
			[]string{"refuses", "upstream-user and upstream-password", "WRONGPASS"},
		},
		{
			"user refused",
			script{
				"hello 2 auth me hunter2": wrongpass,
				"auth me hunter2":         wrongpass, "info": noauth,
			},
			"upstream-user me\nupstream-password hunter2",
			[]string{"refuses", "WRONGPASS"},
		},
		{
			"an old Redis without a password",
			script{"auth hunter2": "-ERR Client sent AUTH, but no password is set\r\n", "info": healthy},
			"upstream-password hunter2",
			[]string{"refuses", "no password is set"},
		},
	} {
		facts, c := factsOf(t, tt.replies, tt.text)
		var out bytes.Buffer
		facts.report(c, c.maxClients, newLogger(&out, levelNotice))
		var warnings []string
		for line := range strings.Lines(out.String()) {
			if strings.Contains(line, "level=warning") {
				warnings = append(warnings, line)
			}
		}
		if !strings.Contains(out.String(), `msg="redis is reached"`) || (len(warnings) > 0) != (len(tt.want) > 0) || len(warnings) > 1 {
			t.Errorf("%s: got %s", tt.what, &out)
			continue
		}
		for _, w := range tt.want {
			if !strings.Contains(warnings[0], w) {
				t.Errorf("%s: %q is missing in %s", tt.what, w, warnings[0])
			}
		}
		if strings.Contains(out.String(), "hunter2") {
			t.Errorf("%s: a password is in the log: %s", tt.what, &out)
		}
	}
}

// firstLine is a log that tells when it was first written to.
type firstLine struct {
	written atomic.Bool
	first   chan string
}

func (w *firstLine) Write(p []byte) (int, error) {
	if !w.written.Swap(true) {
		w.first <- string(p)
	}
	return len(p), nil
}

func TestAnUnreachableRedisIsToldOfAndTriedUntilItIsThere(t *testing.T) {
	l := listenLoopback(t)
	addr := l.Addr().String()
	l.Close()
	c, err := loadText(t, "upstream redis://:hunter2@"+addr)
	if err != nil {
		t.Fatal(err)
	}
	rdb := (&upstream{url: c.upstream}).newClient("", "hunter2")
	defer rdb.Close()
	w := &firstLine{first: make(chan string, 1)}
	type answer struct {
		facts upstreamFacts
		err   error
	}
	reached := make(chan answer, 1)
	go func() {
		facts, err := askUpstream(t.Context(), rdb)
		if err == nil {
			err = errors.New("reached before it was there")
			reached <- answer{facts, err}
			return
		}
		facts, err = reachUpstream(t.Context(), c, rdb, newLogger(w, levelNotice), err)
		reached <- answer{facts, err}
	}()
	line := <-w.first
	if !strings.Contains(line, "level=warning") || !strings.Contains(line, "can't be reached") || !strings.Contains(line, addr) || strings.Contains(line, "hunter2") {
		t.Errorf("got %s", line)
	}
	if l, err = net.Listen("tcp", addr); err != nil {
		t.Skip("the port was taken meanwhile: ", err)
	}
	startScripted(t, l, script{"auth hunter2": "+OK\r\n", "info": bulk("redis_version:7.0.15\r\n")})
	if got := <-reached; got.err != nil || got.facts.version != "7.0.15" {
		t.Errorf("got %+v, %v", got.facts, got.err)
	}
}

func TestTryingToReachRedisEndsWithItsContext(t *testing.T) {
	c, err := loadText(t, "upstream unix:///nowhere/redis.sock")
	if err != nil {
		t.Fatal(err)
	}
	rdb := (&upstream{url: c.upstream}).newClient("", "")
	defer rdb.Close()
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	w := &firstLine{first: make(chan string, 1)}
	go func() {
		<-w.first
		cancel(stop)
	}()
	if _, err := reachUpstream(ctx, c, rdb, newLogger(w, levelNotice), errors.New("first attempt")); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}
