package engine

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	// agreementKey holds what all proxies of one Redis must agree on, in database 0. Whoever runs keeps
	// it alive; whoever is used brings it back when it was deleted.
	agreementKey  = "ks/config:tag-split"
	agreementTTL  = time.Minute
	agreementLook = agreementTTL / 3

	// agreementRetry is the pause after a look that Redis did not answer.
	agreementRetry = 100 * time.Millisecond
)

// agreement makes sure that all proxies of one Redis split names at the same ':'. Two that don't would
// each have a lock of their own for one name.
type agreement struct {
	split string
	log   *slog.Logger
	look  func(ctx context.Context, say bool) (string, error) // what holds; empty: nobody said

	nudge chan struct{} // capacity one

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when a look was answered
	sure    time.Time     // until when what was found counts
	other   string        // what others do, if they differ
	told    string        // what the log was last told
	used    bool          // since the last look
}

func newAgreement(split string, log *slog.Logger, look func(context.Context, bool) (string, error)) *agreement {
	return &agreement{split: split, log: log, look: look, nudge: make(chan struct{}, 1), changed: make(chan struct{})}
}

// run looks at start, every agreementLook, and when a call needs to know.
func (a *agreement) run(ctx context.Context) {
	say := true // at start
	for {
		pause := agreementRetry
		looking, cancel := context.WithTimeout(ctx, startPatience)
		said, err := a.look(looking, say || a.wasUsed())
		cancel()
		var refused RedisError
		switch {
		case err == nil:
			say = false
			a.found(said)
			pause = agreementLook
		case errors.As(err, &refused) && !isPassing(refused): // a replica, an ACL, ...: what it has against a call it says to that
			a.refused(string(refused))
			pause = time.Second
		}
		select {
		case <-a.nudge:
			say = true
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

func (a *agreement) wasUsed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used
}

// isPassing: Redis will tell in a moment.
func isPassing(refused RedisError) bool {
	first, _, _ := strings.Cut(string(refused), " ")
	return first == "LOADING" || first == "BUSY" || first == "TRYAGAIN"
}

// found books what a look said.
func (a *agreement) found(said string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used = false
	switch said {
	case a.split:
		a.settle("", true)
	case "": // found out when it matters
		a.settle("", false)
	default:
		a.settle(said, false)
		a.warn("KS commands are refused: ks-tag-split is '" + a.split + "' here and '" + said + "' at another proxy of this Redis")
	}
}

// refused: Redis does not let us look, so calls go on.
func (a *agreement) refused(words string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settle("", true)
	a.warn("can't make sure that all proxies of this Redis have the same ks-tag-split: " + words)
}

func (a *agreement) settle(other string, agreed bool) {
	a.other, a.sure = other, time.Time{}
	if agreed {
		a.sure = time.Now().Add(agreementTTL - agreementLook/2)
	}
	close(a.changed)
	a.changed = make(chan struct{})
}

// warn logs what is new.
func (a *agreement) warn(news string) {
	if news != a.told {
		a.told = news
		a.log.Warn(news)
	}
}

// state says whether calls may go on, and if not, why; where that is not known it is found out.
func (a *agreement) state() (agreed bool, changed <-chan struct{}, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used = true
	if a.other != "" {
		return false, nil, &UnavailableError{"ks-tag-split is '" + a.split + "' here and '" + a.other +
			"' at another proxy of this Redis: set it to the same everywhere"}
	}
	if !time.Now().Before(a.sure) {
		a.lookAgain()
		return false, a.changed, nil
	}
	return true, nil, nil
}

// check returns nil when calls may go on, else, within startPatience, an UnavailableError.
func (a *agreement) check() error { return patiently(a.state) }

// lookAgain makes it look now. Calls go on meanwhile: that the proxy's own connection falters is no reason to
// refuse them.
func (a *agreement) lookAgain() {
	select {
	case a.nudge <- struct{}{}:
	default:
	}
}

// lookAtAgreement asks Redis, and with say says what this proxy does if nobody has.
func (e *Engine) lookAtAgreement(ctx context.Context, say bool) (string, error) {
	reply, err := agreeScript.run(ctx, e.own.conn(), []string{agreementKey},
		[]any{e.agreement.split, agreementTTL.Milliseconds(), asFlag(say)})
	said, _ := reply.(string)
	return said, err
}
