package main

import (
	"bytes"
	"runtime"
	"strings"
	"testing"
)

func TestMaxclientsIsLoweredToWhatTheDescriptorsCarry(t *testing.T) {
	for _, tt := range []struct {
		text  string
		files uint64
		want  int // 0: too few
		warns bool
	}{
		{"upstream redis://h", 20096, 10000, false},
		{"upstream redis://h", 20095, 9999, true},
		{"upstream redis://h", 1024, 464, true},
		{"upstream redis://h\nmaxclients 464", 1024, 464, false},
		{"upstream redis://h", reservedFiles + 2, 1, true},
		{"upstream redis://h", reservedFiles + 1, 0, false},
		{"upstream redis://h\nmaxclients 4294967295", 1 << 62, 4294967295, false},
		{"upstream embedded", 30095, 9999, true},
	} {
		c, err := loadText(t, tt.text)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		got, err := clientLimit(c, tt.files, newLogger(&out, levelNotice))
		if got != tt.want || (err != nil) != (tt.want == 0) || strings.Contains(out.String(), "maxclients is lowered") != tt.warns {
			t.Errorf("%s with %d files: got %d, %v, %s", tt.text, tt.files, got, err, &out)
		}
	}
}

func TestTheLimitOfOpenFilesIsTheHardOne(t *testing.T) {
	first, err := openFileLimit()
	if err != nil || first == 0 {
		t.Fatal(first, err)
	}
	if again, err := openFileLimit(); err != nil || again != first {
		t.Errorf("got %d, then %d, %v", first, again, err)
	}
}

func TestThreadsAreThoseAskedForOrHalfTheCores(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	half := max(cores/2, 1)
	for _, tt := range []struct {
		text, env string
		want      int
	}{
		{"threads auto", "", half},
		{"threads 3", "", 3},
		{"threads 3", "7", 3},
		{"", "7", 7},
	} {
		t.Setenv("GOMAXPROCS", tt.env)
		runtime.GOMAXPROCS(7) // as the runtime does where the environment says so
		c, err := loadText(t, tt.text)
		if err != nil {
			t.Fatal(err)
		}
		if got := applyThreads(c); got != tt.want || runtime.GOMAXPROCS(0) != tt.want {
			t.Errorf("%q, GOMAXPROCS=%s: got %d, runs with %d", tt.text, tt.env, got, runtime.GOMAXPROCS(0))
		}
	}
}
