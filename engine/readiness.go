package engine

import (
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// startPatience is how long a call waits for the engine's first subscription instead of being refused
// at once: at start the first callers may be a moment earlier than it.
const startPatience = time.Second

// readiness knows whether the engine's own connection to Redis can serve. A connection that was lost is
// no reason to refuse (asks run on the callers' sessions, timers go on, bells ring once it is back), one
// that Redis refuses is.
type readiness struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every change
	everUp  bool
	refusal string // Redis's words, when it refuses our credentials
}

func newReadiness() *readiness { return &readiness{changed: make(chan struct{})} }

func (r *readiness) set(up bool, refusal string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.everUp, r.refusal = r.everUp || up, refusal
	close(r.changed)
	r.changed = make(chan struct{})
}

// up: subscribed.
func (r *readiness) up() { r.set(true, "") }

// down: the subscription is lost, or refused. While Redis can't be reached we know nothing new about
// the credentials.
func (r *readiness) down(err error) {
	var refused redis.Error
	if !errors.As(err, &refused) || !refusesCredentials(refused.Error()) {
		return
	}
	r.set(false, refused.Error())
}

func refusesCredentials(words string) bool {
	first, _, _ := strings.Cut(words, " ")
	return first == "NOAUTH" || first == "WRONGPASS" || first == "NOPERM" ||
		strings.Contains(words, "invalid password") || strings.Contains(words, "invalid username-password") ||
		strings.Contains(words, "without any password configured")
}

// check returns nil when calls can be served, at once or within startPatience, else an
// UnavailableError. A caller that hung up waits for it too: what it asked may need no further waiting.
func (r *readiness) check() error { return patiently(r.state) }

// patiently asks state until it says yes or fails, each time that it has changed, startPatience at most.
func patiently(state func() (yes bool, changed <-chan struct{}, err error)) error {
	var patience <-chan time.Time
	for {
		yes, changed, err := state()
		if yes || err != nil {
			return err
		}
		if patience == nil {
			t := time.NewTimer(startPatience)
			defer t.Stop()
			patience = t.C
		}
		select {
		case <-changed:
		case <-patience:
			return unreachable()
		}
	}
}

// state says whether calls can be served, and if not, why or until when that is not known.
func (r *readiness) state() (serves bool, changed <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refusal != "" {
		err = &UnavailableError{"Redis refuses the proxy's own connection (" + r.refusal +
			"): set upstream-user and upstream-password"}
	}
	return err == nil && r.everUp, r.changed, err
}

func unreachable() error {
	return &UnavailableError{"the proxy's own connection to Redis is not up yet: " +
		"check upstream, upstream-user and upstream-password"}
}
