package engine

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// pingEvery is how long a subscription may be silent before it is pinged; after twice that
	// without an answer it is taken for dead and dialled anew.
	pingEvery = 3 * time.Second

	redialFirst = 50 * time.Millisecond // doubles up to redialMost
	redialMost  = time.Second
)

// subscription keeps a connection of its own subscribed to channel, for ever. Its callbacks run on one
// goroutine.
type subscription struct {
	client  *redis.Client
	channel string

	up      func(*redis.PubSub)                         // subscribed, for the first time or again
	down    func(error)                                 // lost or refused; more calls follow while it stays so
	message func(channel, payload string, pattern bool) // a message came; pattern: on a channel that matches one
	added   func(channel string, pattern bool)          // Redis confirmed a further channel, or pattern; optional

	name string // for the log
	log  *slog.Logger
	told string // what the log was last told; only what is new is worth a line

	mu      sync.Mutex
	current *redis.PubSub // while it is subscribed
	why     error         // it was closed by redial
}

// stands returns the connection that is subscribed, as far as is known; nil if none is.
func (s *subscription) stands() *redis.PubSub {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// redial gives up the connection that stood for a new one, if it stands still; why is for the log. It may wait for
// that connection.
func (s *subscription) redial(stood *redis.PubSub, why error) {
	s.mu.Lock()
	stands := stood != nil && s.current == stood
	if stands {
		s.current, s.why = nil, why
	}
	s.mu.Unlock()
	if stands {
		_ = stood.Close()
	}
}

// ended is called when a connection is of no use any more; it returns why.
func (s *subscription) ended(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why != nil {
		err = s.why
	}
	s.current, s.why = nil, nil
	return err
}

// tell logs a change of state, once.
func (s *subscription) tell(err error) {
	switch {
	case err == nil:
		s.told = ""
		s.log.Info("subscribed", "to", s.name, "channel", s.channel)
	case err.Error() != s.told:
		s.told = err.Error()
		s.log.Warn("subscription lost, trying again", "to", s.name, "err", err)
	}
}

// run returns when ctx ends.
func (s *subscription) run(ctx context.Context) {
	wait := redialFirst
	for ctx.Err() == nil {
		began := time.Now()
		err := s.ended(s.listen(ctx))
		if ctx.Err() != nil {
			return
		}
		s.tell(err)
		s.down(err)
		if time.Since(began) > pingEvery {
			wait = redialFirst
		}
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-ctx.Done():
		}
		wait = min(2*wait, redialMost)
	}
}

// listen subscribes and delivers until the connection breaks. go-redis's own channel hides
// re-subscriptions and drops messages, so the connection is read here.
func (s *subscription) listen(ctx context.Context) error {
	ps := s.client.Subscribe(ctx)
	stop := context.AfterFunc(ctx, func() { _ = ps.Close() }) // a read does not look at ctx
	defer func() {
		stop()
		_ = ps.Close()
	}()
	if err := ps.Subscribe(ctx, s.channel); err != nil {
		return err
	}
	pinged := false
	for {
		got, err := ps.ReceiveTimeout(ctx, pingEvery)
		if isTimeout(err) && !pinged {
			pinged = true
			err = ps.Ping(ctx)
			if err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		pinged = false
		s.deliver(ps, got)
	}
}

func (s *subscription) deliver(ps *redis.PubSub, got any) {
	switch got := got.(type) {
	case *redis.Subscription:
		switch {
		case got.Kind != "subscribe" && got.Kind != "psubscribe":
		case got.Kind == "subscribe" && got.Channel == s.channel:
			s.tell(nil)
			s.mu.Lock()
			s.current = ps
			s.mu.Unlock()
			s.up(ps)
		case s.added != nil:
			s.added(got.Channel, got.Kind == "psubscribe")
		}
	case *redis.Message:
		s.message(got.Channel, got.Payload, got.Pattern != "")
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
