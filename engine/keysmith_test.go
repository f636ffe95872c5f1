package engine

import (
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/keysmith/recorded"
)

// keySmithRuns does to the line what a process of KeySmith for .NET does, with a script of recorded.
func (b *backend) keySmithRuns(script, id string) any {
	b.t.Helper()
	args := recorded.KeysOf("likes", "kristoff").Args(id, time.Minute)
	return b.do(append([]any{"EVAL", script, 0}, args...)...)
}

// keySmithAcquires takes a free lock, or stands in line.
func (b *backend) keySmithAcquires(id string) bool {
	b.t.Helper()
	return b.keySmithRuns(recorded.Take, id) == int64(1)
}

// keySmithReleases hands the lock to the first in line whom the hash knows.
func (b *backend) keySmithReleases() {
	b.t.Helper()
	b.keySmithRuns(recorded.Release, b.do("GET", lockKey).(string))
}

func withKeySmith(c *Config) { c.KeySmith = true }

// listening waits until e has subscribed to n names' hand-offs.
func (b *backend) listening(n int64) {
	b.t.Helper()
	b.eventually("patterns", func() bool { return b.do("PUBSUB", "NUMPAT") == n })
}

func TestAHandOffOfKeySmithsWakesOurWaiterAtOnce(t *testing.T) {
	onBothWithin(t, atOnce, func(t *testing.T, b *backend) time.Duration {
		e := b.engine(withKeySmith)
		if !b.keySmithAcquires("net") {
			t.Fatal("not acquired")
		}
		first := lockAsync(t.Context(), e, b.session(0), Request{Name: name})
		b.inLine(queue, 1)
		second := lockAsync(t.Context(), e, b.session(0), Request{Name: name})
		b.inLine(queue, 2)
		b.listening(1)
		if n := b.do("PUBSUB", "NUMSUB", "likes/locknotif:kristoff").([]any)[1]; n != int64(0) {
			t.Errorf("%v exact subscribers: that is what tells KeySmith's processes are alive", n)
		}
		began := time.Now()
		b.keySmithReleases()
		got := wait(t, first)
		after := got.at.Sub(began)
		if got.err != nil {
			t.Errorf("not granted after %v: %v", after, got.err)
		}
		mustUnlock(t, e, b.session(0), name, got.Token)
		mustUnlock(t, e, b.session(0), name, wait(t, second).Token)
		b.listening(0)
		if n := len(e.waiters.named) + len(e.notif.names); n != 0 {
			t.Errorf("%d names are still known", n)
		}
		return after
	})
}

func TestWithoutInteropAHandOffOfKeySmithsIsFoundByTheRecheck(t *testing.T) {
	within(t, 1500*time.Millisecond, onRedis, func(t *testing.T, b *backend) time.Duration {
		e := b.engine()
		b.keySmithAcquires("net")
		waiting := lockAsync(t.Context(), e, b.session(0), Request{Name: name})
		b.inLine(queue, 1)
		began := time.Now()
		b.keySmithReleases()
		got := wait(t, waiting)
		if got.err != nil {
			t.Errorf("not granted after %v: %v", got.at.Sub(began), got.err)
		}
		return got.at.Sub(began)
	})
}

func TestOurUnlockHandsTheLockToKeySmithsProcessIfItListens(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine(withKeySmith)
		s := b.session(0)
		for _, alive := range []bool{true, false} {
			held := mustLock(t, e, s, Request{Name: name})
			if b.keySmithAcquires("net") {
				t.Fatal("barged in")
			}
			next := lockAsync(t.Context(), e, b.session(0), Request{Name: name})
			b.inLine(queue, 2)
			b.listening(1)
			if alive {
				net := b.c.Subscribe(t.Context(), "likes/locknotif:kristoff")
				if _, err := net.Receive(t.Context()); err != nil {
					t.Fatal(err)
				}
				mustUnlock(t, e, s, name, held.Token)
				if m, err := net.ReceiveMessage(t.Context()); err != nil || m.Payload != "net" {
					t.Errorf("KeySmith heard %v, %v", m, err)
				}
				if owner := b.do("GET", lockKey); owner != "net" {
					t.Errorf("the lock is %v's", owner)
				}
				net.Close()
				b.keySmithReleases()
			} else { // one that was cancelled stays in line, and is passed over
				mustUnlock(t, e, s, name, held.Token)
			}
			mustUnlock(t, e, s, name, wait(t, next).Token)
			b.do("DEL", queue, "likes/lockwaitingset:kristoff")
		}
	})
}

func TestThePatternOfAHandOffMatchesItsChannelOnly(t *testing.T) {
	b := onRedis(t)
	odd := feed{`a*b?[c]\d^-e`, true}
	ps := b.c.PSubscribe(t.Context(), odd.escaped())
	defer ps.Close()
	if _, err := ps.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	for channel, want := range map[string]int64{odd.channel: 1, `aXb?[c]\d^-e`: 0, `a*bX[c]\d^-e`: 0, `a*b?c\d^-e`: 0} {
		if n := b.do("PUBLISH", channel, ""); n != want {
			t.Errorf("%q matches %v times", channel, n)
		}
	}
}
