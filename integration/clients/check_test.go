package clients

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// A future is the result of something that runs in the background.
type future[T any] struct {
	done   chan struct{} // closed when result and err are there
	result T
	err    error
}

func background[T any](f func() (T, error)) *future[T] {
	later := &future[T]{done: make(chan struct{})}
	go func() {
		later.result, later.err = f()
		close(later.done)
	}()
	return later
}

// wait returns how it went, and fails the test if it takes too long.
func (f *future[T]) wait(t *testing.T) (T, error) {
	t.Helper()
	select {
	case <-f.done:
	case <-time.After(harness.Patience):
		t.Fatalf("no reply within %v", harness.Patience)
	}
	return f.result, f.err
}

// value returns the result, and fails the test if there is an error instead.
func (f *future[T]) value(t *testing.T) T {
	t.Helper()
	result, err := f.wait(t)
	noError(t, err)
	return result
}

// want fails the test unless a command replied got.
func want[T any](t *testing.T, cmd interface{ Result() (T, error) }, wanted T) {
	t.Helper()
	got, err := cmd.Result()
	noError(t, err)
	equal(t, got, wanted)
}

// fails fails the test unless a command replied an error with this text.
func fails(t *testing.T, cmd redis.Cmder, text string) {
	t.Helper()
	if err := cmd.Err(); err == nil || !strings.Contains(err.Error(), text) {
		t.Fatalf("%v, want an error with %q", cmd, text)
	}
}

func equal[T any](t *testing.T, got, wanted T) {
	t.Helper()
	if !reflect.DeepEqual(got, wanted) {
		t.Fatalf("got %v, want %v", got, wanted)
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually asks until the answer is yes; its pauses only keep it from spinning.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(harness.Patience); !is(); {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", harness.Patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
