package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLogLinesAreKeysAndValuesWithRedisLevels(t *testing.T) {
	var out bytes.Buffer
	log := newLogger(&out, levelVerbose)
	log.Debug("a")
	log.Log(t.Context(), levelVerbose, "b")
	log.Info("c d", "level", "x")
	log.Warn("e")
	log.Error("f")
	var got []string
	for line := range strings.Lines(out.String()) {
		_, rest, _ := strings.Cut(line, " ")
		got = append(got, strings.TrimSpace(rest))
	}
	want := `[level=verbose msg=b level=notice msg="c d" level=x level=warning msg=e level=warning msg=f]`
	if fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestTheLogGoesToItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for range 2 {
		c, err := loadText(t, "logfile "+path)
		if err != nil {
			t.Fatal(err)
		}
		var stderr bytes.Buffer
		log, closeLog, err := openLog(c, &stderr)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("line")
		if err := closeLog(); err != nil || stderr.Len() > 0 {
			t.Errorf("%v, %q", err, &stderr)
		}
	}
	if b, err := os.ReadFile(path); err != nil || strings.Count(string(b), "msg=line") != 2 {
		t.Errorf("got %q, %v", b, err)
	}
	c, err := loadText(t, "logfile /none/log")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err = openLog(c, nil); err == nil || !strings.HasSuffix(err.Error(), "redis.conf:1: logfile: open /none/log: no such file or directory") {
		t.Errorf("got %v", err)
	}
}
