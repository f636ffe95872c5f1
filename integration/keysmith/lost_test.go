package keysmith

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/keysmith/recorded"
)

func (s *stage) lostMessageToKeySmith(t *testing.T) {
	const name, expiration = "deaf:1", 1500 * time.Millisecond
	p := s.process(t)
	holder := s.caller(t, 0)
	g := holder.lock(name)
	c := p.lock(name, expiration)
	w := s.join(t, 1, name)
	p.deafen()
	began := time.Now()
	holder.unlock(name, g)
	s.awaitOwner(t, name, c.id)
	w.silent("KeySmith's turn has come")
	c.granted()
	took(t, "KeySmith found out by itself", began, expiration, expiration+5*time.Second)
	if owner := s.owner(t, name); owner != c.id {
		t.Fatalf("then the lock was %q's", owner)
	}
	c.release()
	w.granted()
	w.release()
	s.onlyFences(t)
}

func (s *stage) unlinkedLine(t *testing.T) {
	const name = "unlink:1"
	p := s.process(t)
	held := p.lock(name, lease)
	waiters := []*waiter{s.join(t, 0, name), s.join(t, 1, name), s.join(t, 2, name)}
	s.awaitPatterns(t, 1)
	began := time.Now()
	// In one step, so that none of ours can enter the line anew in between.
	_, err := s.admin.TxPipelined(context.Background(), func(p redis.Pipeliner) error {
		p.Del(context.Background(), held.keys.Queue)
		p.Do(context.Background(), held.command(recorded.Release, lease)...)
		p.Exists(context.Background(), held.keys.Lock, held.keys.Queue, held.keys.Set)
		return nil
	})
	if err != nil && err != redis.Nil {
		t.Fatal(err)
	}
	s.inAnyOrder(t, waiters...)
	took(t, "three who had been unlinked were granted", began, 3*recheck, 3*recheck+8*time.Second)
	held.release()
	s.onlyFences(t)
}

func (s *stage) handOffThatRunsOut(t *testing.T) {
	const name, rounds = "unseen:1", 3
	p := s.process(t)
	for round := range rounds {
		held := p.lock(name, lease)
		held.granted()
		waiters := []*waiter{s.join(t, round, name), s.join(t, round+1, name)}
		began := time.Now()
		held.releaseFor(20 * time.Millisecond) // lock, queue and set are gone then
		s.inAnyOrder(t, waiters...)
		took(t, "both were granted", began, 2*recheck, 2*recheck+8*time.Second)
	}
	s.onlyFences(t)
}

// The message of the hand-off is held back on its way to the proxy.
func TestAHandOffThatNobodyHears(t *testing.T) {
	t.Parallel()
	s := setup{proxies: 2, interop: true, relayed: true}.start(t)
	const name = "unheard:1"
	p := s.process(t)
	held := p.lock(name, lease)
	w, next := s.join(t, 0, name), s.join(t, 1, name)
	s.awaitPatterns(t, 1)
	var links []*harness.Link
	harness.Eventually(t, "both proxies listen", func() bool {
		links = s.patternLinks(t)
		return len(links) == 2
	})
	for _, link := range links {
		link.Stall()
	}
	began := time.Now()
	held.release()
	w.granted()
	took(t, "the hand-off was found", began, recheck, recheck+5*time.Second)
	for _, link := range links {
		link.Resume()
	}
	w.release()
	next.granted()
	next.release()
	s.onlyFences(t)
}

// patternLinks are the links of connections that are subscribed to patterns.
func (s *stage) patternLinks(t testing.TB) (links []*harness.Link) {
	t.Helper()
	for line := range strings.Lines(s.do(t, "CLIENT", "LIST").(string)) {
		if strings.Contains(line, " psub=0 ") {
			continue
		}
		_, addr, _ := strings.Cut(line, " addr=")
		addr, _, _ = strings.Cut(addr, " ")
		for _, relay := range s.relays {
			if link := relay.Link(addr); link != nil {
				links = append(links, link)
			}
		}
	}
	return links
}

// KeySmith gives our line the end of its own locks; a proxy that is not there to refresh it finds nothing left.
func TestALineThatRunsOutWhileItsProxyIsFrozen(t *testing.T) {
	onAndOff(t, setup{proxies: 2}, func(t *testing.T, s *stage) {
		for _, how := range []string{"free", "taken"} {
			name := "ranout:" + how
			p := s.process(t)
			held := p.lock(name, lease)
			waiters := []*waiter{s.join(t, 0, name), s.join(t, 1, name), s.join(t, 0, name)}
			for _, proxy := range s.proxies {
				proxy.Freeze(t)
			}
			held.releaseFor(100 * time.Millisecond)
			harness.Eventually(t, "nothing is left of the line", func() bool {
				return s.do(t, "EXISTS", held.keys.Lock, held.keys.Queue, held.keys.Set) == int64(0)
			})
			var barged *call
			if how == "taken" {
				barged = p.lock(name, lease)
				barged.granted()
			}
			s.thaw(t)
			began := time.Now()
			if barged != nil {
				s.awaitLine(t, name, len(waiters))
				for _, w := range waiters {
					w.silent("KeySmith has taken the lock meanwhile")
				}
				barged.release()
			}
			s.inAnyOrder(t, waiters...)
			took(t, "three who had been forgotten were granted", began, 4*recheck, 4*recheck+8*time.Second)
		}
		s.onlyFences(t)
	})
}
