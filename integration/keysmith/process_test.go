package keysmith

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/keysmith/recorded"
)

// process plays a process of KeySmith for .NET: one connection for its commands, one for its subscriptions.
type process struct {
	t       testing.TB
	c       *redis.Client
	ps      *redis.PubSub
	ctx     context.Context
	die     context.CancelFunc
	running sync.WaitGroup
	gate    sync.RWMutex // held while the process is frozen

	mu    sync.Mutex
	deaf  bool
	calls map[string][]*call // by channel
	known map[string]bool    // channels that Redis has confirmed
	news  chan struct{}      // closed and replaced whenever known changes
}

func (s *stage) process(t testing.TB) *process {
	t.Helper()
	p := &process{
		t:     t,
		c:     s.client(s.Addr),
		calls: map[string][]*call{},
		known: map[string]bool{},
		news:  make(chan struct{}),
	}
	p.ctx, p.die = context.WithCancel(context.Background())
	p.ps = p.c.Subscribe(p.ctx)
	p.running.Go(p.listen)
	t.Cleanup(p.kill)
	return p
}

// kill ends the process: nothing is released, its subscriptions are gone when it returns.
func (p *process) kill() {
	p.die()
	p.ps.Close()
	p.c.Close()
	p.running.Wait()
}

// freeze stops the process, which stays connected, until thaw is called.
func (p *process) freeze() (thaw func()) {
	p.gate.Lock()
	return sync.OnceFunc(p.gate.Unlock)
}

// deafen loses all messages that come from now on.
func (p *process) deafen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = true
}

// listen reads what the subscriptions say.
func (p *process) listen() {
	for p.ctx.Err() == nil {
		m, err := p.ps.Receive(p.ctx)
		if err != nil {
			continue // the next Receive connects again
		}
		p.gate.RLock()
		switch m := m.(type) {
		case *redis.Subscription:
			p.mu.Lock()
			p.known[m.Channel] = m.Kind == "subscribe"
			close(p.news)
			p.news = make(chan struct{})
			p.mu.Unlock()
		case *redis.Message:
			for _, c := range p.listeners(m.Channel) {
				c.hears(m.Payload)
			}
		}
		p.gate.RUnlock()
	}
}

func (p *process) listeners(channel string) []*call {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.deaf {
		return nil
	}
	return append([]*call(nil), p.calls[channel]...)
}

// subscribe returns when Redis has confirmed that the process hears of c's lock.
func (p *process) subscribe(c *call) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	channel := c.keys.Channel
	p.calls[channel] = append(p.calls[channel], c)
	if len(p.calls[channel]) == 1 {
		if err := p.ps.Subscribe(p.ctx, channel); err != nil {
			return err
		}
	}
	for !p.known[channel] {
		news := p.news
		p.mu.Unlock()
		select {
		case <-news:
		case <-p.ctx.Done():
		case <-time.After(harness.Patience):
			p.mu.Lock()
			return errors.New("the subscription was not confirmed")
		}
		p.mu.Lock()
		if p.ctx.Err() != nil {
			return p.ctx.Err()
		}
	}
	return nil
}

// unsubscribe waits for the answer, which the original does not, so that the next call finds the channel as it is.
func (p *process) unsubscribe(c *call) {
	p.mu.Lock()
	defer p.mu.Unlock()
	channel := c.keys.Channel
	var others []*call
	for _, other := range p.calls[channel] {
		if other != c {
			others = append(others, other)
		}
	}
	p.calls[channel] = others
	if len(others) > 0 || p.ps.Unsubscribe(p.ctx, channel) != nil {
		return
	}
	for p.known[channel] && p.ctx.Err() == nil {
		news := p.news
		p.mu.Unlock()
		select {
		case <-news:
		case <-p.ctx.Done():
		}
		p.mu.Lock()
	}
}

// The states of a call.
const (
	waiting = iota
	holding
	done
)

// call is one LockAsync of a process.
type call struct {
	*process
	name       string
	id         string
	keys       recorded.Keys
	expiration time.Duration

	state     sync.Mutex
	is        int
	cancelled bool
	got       chan struct{} // closed when it has the lock
	lost      chan struct{} // closed when it learns that it has the lock no more
	over      chan struct{} // closed when it is released
}

// lock does what LockAsync does up to where its callback would run, or wait to run. The rest happens by itself.
func (p *process) lock(name string, expiration time.Duration) *call {
	p.t.Helper()
	root, rest := split(name)
	c := &call{
		process: p, name: name, id: rand.Text()[:15], keys: recorded.KeysOf(root, rest), expiration: expiration,
		got: make(chan struct{}), lost: make(chan struct{}), over: make(chan struct{}),
	}
	err := p.subscribe(c)
	if err == nil {
		err = c.take()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.running.Go(c.protect)
	return c
}

func (c *call) run(script string) *redis.Cmd {
	return c.c.Do(c.ctx, c.command(script, c.expiration)...)
}

func (c *call) command(script string, expiration time.Duration) []any {
	return append([]any{"EVAL", script, 0}, c.keys.Args(c.id, expiration)...)
}

func (c *call) take() error {
	taken, err := c.run(recorded.Take).Int()
	if taken == 1 {
		c.has()
	}
	return err
}

// protect looks every expiration whether Redis and the call agree.
func (c *call) protect() {
	tick := time.NewTicker(c.expiration)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.over:
			return
		case <-c.ctx.Done():
			return
		}
		c.gate.RLock()
		c.look()
		c.gate.RUnlock()
	}
}

func (c *call) look() {
	if c.now(func() bool { return c.cancelled || c.is == done }) {
		return
	}
	situation, err := c.run(recorded.Situation).Int()
	if err != nil {
		return
	}
	switch situation {
	case recorded.Has:
		c.has()
	case recorded.Nowhere:
		if c.now(func() bool { return c.is == holding }) {
			c.loses()
		} else if c.now(func() bool { return c.is == waiting }) {
			c.take()
		}
	}
}

// now asks something about the state.
func (c *call) now(is func() bool) bool {
	c.state.Lock()
	defer c.state.Unlock()
	return is()
}

// hears is the handler of a message on the lock's channel.
func (c *call) hears(id string) {
	switch {
	case id == c.id:
		c.has()
	case c.now(func() bool { return c.is == holding }):
		c.loses()
	}
}

// has: a call that was cancelled meanwhile releases at once.
func (c *call) has() {
	c.state.Lock()
	news := c.is == waiting
	if news {
		c.is = holding
	}
	drop := news && c.cancelled
	c.state.Unlock()
	if drop {
		go c.release()
	} else if news {
		close(c.got)
	}
}

// loses: the callback is told to stop, and what follows is the same as at its end.
func (c *call) loses() {
	c.state.Lock()
	news := c.is == holding
	if news {
		c.is = done
	}
	c.state.Unlock()
	if news {
		close(c.lost)
		go c.end()
	}
}

// release is the end of the callback.
func (c *call) release() {
	c.state.Lock()
	news := c.is != done
	c.is = done
	c.state.Unlock()
	if news {
		c.end()
	}
}

// releaseFor releases as a process does for which locks expire sooner: it is its expiration that the next owner has.
func (c *call) releaseFor(expiration time.Duration) {
	c.t.Helper()
	if err := c.c.Do(c.ctx, c.command(recorded.Release, expiration)...).Err(); err != nil && err != redis.Nil {
		c.t.Fatal(err)
	}
	c.release()
}

func (c *call) end() {
	c.run(recorded.Release)
	c.unsubscribe(c)
	close(c.over)
}

// cancel cancels the call. While it waits that only ends its looking: its id stays in line, and it goes on listening.
func (c *call) cancel() {
	c.state.Lock()
	defer c.state.Unlock()
	c.cancelled = true
}
