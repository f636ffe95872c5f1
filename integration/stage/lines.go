package stage

import (
	"fmt"
	"strings"
	"testing"
)

// KeyOf is where what belongs to name lives: README, names and keys.
func KeyOf(name, what string) string {
	tag, rest, found := strings.Cut(name, ":")
	if found {
		rest = ":" + rest
	}
	return tag + "/" + what + rest
}

// Line is the tokens that wait, in order.
func (s *Stage) Line(t testing.TB, name string) []string {
	t.Helper()
	return s.Words(t, "LRANGE", KeyOf(name, "lockwaiting"), "0", "-1")
}

// AwaitLine waits until n callers stand in line and returns their tokens.
func (s *Stage) AwaitLine(t testing.TB, name string, n int) []string {
	t.Helper()
	var line []string
	Eventually(t, fmt.Sprintf("%d callers wait for %s", n, name), func() bool {
		line = s.Line(t, name)
		return len(line) == n
	})
	return line
}

// Owner is the token that has the lock; empty if it is free.
func (s *Stage) Owner(t testing.TB, name string) string {
	t.Helper()
	token, _ := s.Must(t, "GET", KeyOf(name, "lock")).(string)
	return token
}

// AwaitOwner waits until token has the lock.
func (s *Stage) AwaitOwner(t testing.TB, name, token string) {
	t.Helper()
	Eventually(t, fmt.Sprintf("the lock %s is %q's", name, token), func() bool { return s.Owner(t, name) == token })
}

// AwaitFree waits until nobody has the lock.
func (s *Stage) AwaitFree(t testing.TB, name string) {
	t.Helper()
	Eventually(t, "the lock "+name+" is free", func() bool { return s.Owner(t, name) == "" })
}

// Place is how Redis has somebody who waits.
func (s *Stage) Place(t testing.TB, name, token string) string {
	t.Helper()
	place, _ := s.Must(t, "HGET", KeyOf(name, "lockwaitingset"), token).(string)
	if place == "" {
		t.Fatalf("%q does not wait for %s", token, name)
	}
	return place
}

// Marked: who waits there could not be rung, or did not claim.
func Marked(place string) bool { return strings.Contains(place, "|") }

// InstanceOf is the name that the proxy of a waiter has on the wire.
func (s *Stage) InstanceOf(t testing.TB, w *Waiter) string {
	t.Helper()
	place, _ := s.Must(t, "HGET", KeyOf(w.Name, "lockwaitingset"), w.Token).(string)
	parts := strings.Split(place, ":")
	if len(parts) < 3 {
		t.Fatalf("the place of %s is %q", w.Token, place)
	}
	return parts[1]
}
