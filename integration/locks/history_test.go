package locks

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// history is many callers of one lock on all proxies, and what it checks at
// each grant.
type history struct {
	*stage.Stage
	name string

	mu        sync.Mutex
	holder    string            // token of who believes to hold the lock
	session   bool              // for as long as its connection lives
	overtaken map[string]string // SESSION holders, by who was granted the lock while they believed to have it
	fence     int64
	grants    int
	last      time.Time
	pause     time.Duration // longest time without a grant
	wrong     []string
}

// TestManyCallersWhileThingsBreak: one holder at a time and rising fences, while
// connections are killed, callers hang up, scripts are flushed and proxies stop
// for a moment. No lease runs out, so there is no excuse.
func TestManyCallersWhileThingsBreak(t *testing.T) {
	t.Parallel()
	h := &history{
		Stage: stage.Setup{Proxies: 3, Args: []string{"--ks-lock-ttl", "20000"}}.Start(t), name: "history:1",
		overtaken: map[string]string{},
	}
	before := h.Resources(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	h.last = time.Now()
	var callers, chaos sync.WaitGroup
	chaos.Go(func() { h.breakThings(ctx, t) })
	for i := range 12 {
		callers.Go(func() { h.call(ctx, t, rand.New(rand.NewPCG(1, uint64(i)))) })
	}
	callers.Wait()
	chaos.Wait()
	t.Logf("%d grants, longest pause %v", h.grants, h.pause.Round(time.Millisecond))
	for _, wrong := range h.wrong {
		t.Error(wrong)
	}
	if h.grants < 50 {
		t.Errorf("only %d grants", h.grants)
	}
	if bound := 6 * time.Second; h.pause > bound {
		t.Errorf("nobody was granted for %v", h.pause)
	}
	h.AwaitFree(t, h.name)
	c := h.Client(t, 0) // places that are kept for their TOKEN go with the next who has the lock
	stage.Eventually(t, "nobody is left in line", func() bool {
		c.Unlock(h.name, c.Lock(h.name, "NOWAIT"))
		return len(h.Line(t, h.name)) == 0
	})
	c.Close()
	h.NothingLeft(t)
	h.AwaitResources(t, before)
}

// call takes the lock again and again, on one proxy or another.
func (h *history) call(ctx context.Context, t testing.TB, random *rand.Rand) {
	for ctx.Err() == nil {
		nc, err := harness.TryDial(h.Proxies[random.IntN(len(h.Proxies))].Addr)
		if err != nil {
			continue
		}
		for ctx.Err() == nil && h.once(nc, random) {
		}
		nc.Close()
	}
}

// once is one call; false when the connection is of no more use.
func (h *history) once(c *harness.Conn, random *rand.Rand) bool {
	options := [][]string{{}, {"SESSION"}, {"NOWAIT"}, {"WAIT", "30"}, {"TOKEN", fmt.Sprint(random.Uint64())}}
	args := append([]string{"KS.LOCK", h.name}, options[random.IntN(len(options))]...)
	if _, err := c.Write([]byte(harness.Command(args...))); err != nil {
		return false
	}
	leaves := random.IntN(8) == 0
	if leaves {
		time.Sleep(time.Duration(random.IntN(5000)) * time.Microsecond)
		c.Conn.(interface{ CloseWrite() error }).CloseWrite()
	}
	reply, err := c.ReplyWithin(harness.Patience)
	if err != nil {
		if _, end := c.Received(); end == harness.Open {
			h.blame("%q: %v", args, err)
		}
		return false
	}
	value, _, _ := stage.ParseOne(reply)
	if value == nil {
		return !leaves
	}
	g, err := stage.AsGrant(value)
	if err != nil {
		h.blame("%q: %v", args, err)
		return false
	}
	session := args[len(args)-1] == "SESSION"
	if leaves && session {
		return false // it may be somebody else's by now
	}
	h.enter(g, session)
	time.Sleep(time.Duration(random.IntN(2000)) * time.Microsecond)
	beside := h.leave(g)
	lives := h.giveBack(c, g)
	if lives && beside != "" {
		h.blame("%s was granted the lock while a connection lived that held it as a SESSION, as %s", beside, g.Token)
	}
	return lives && !leaves
}

// giveBack unlocks, on other connections if need be: that one may be gone, which it tells.
func (h *history) giveBack(c *harness.Conn, g stage.Grant) bool {
	args := harness.Command("KS.UNLOCK", h.name, g.Token)
	if _, err := c.Write([]byte(args)); err == nil {
		if reply, err := c.ReplyWithin(harness.Patience); err == nil {
			if reply != ":1\r\n" {
				h.blame("the holder's KS.UNLOCK of %s answers %q", g.Token, reply)
			}
			return true
		}
	}
	for i := range 100 {
		nc, err := harness.TryDial(h.Proxies[i%len(h.Proxies)].Addr)
		if err != nil {
			continue
		}
		nc.Write([]byte(args))
		_, err = nc.ReplyWithin(harness.Patience)
		nc.Close()
		if err == nil {
			return false
		}
	}
	h.blame("the lock could not be given back")
	return false
}

// enter notes the grant. One that a SESSION holds may have been released because its connection was killed, before
// its client knows.
func (h *history) enter(g stage.Grant, session bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.holder != "" && h.session:
		h.overtaken[h.holder] = g.Token
	case h.holder != "":
		h.wrong = append(h.wrong, fmt.Sprintf("%s was granted while %s holds", g.Token, h.holder))
	}
	if g.Fence <= h.fence {
		h.wrong = append(h.wrong, fmt.Sprintf("fence %d after %d", g.Fence, h.fence))
	}
	h.holder, h.session, h.fence = g.Token, session, g.Fence
	h.grants++
	h.pause = max(h.pause, time.Since(h.last))
	h.last = time.Now()
}

// leave returns who else was granted meanwhile what a SESSION held.
func (h *history) leave(g stage.Grant) (beside string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.holder == g.Token {
		h.holder = ""
	}
	return h.overtaken[g.Token]
}

func (h *history) blame(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrong = append(h.wrong, fmt.Sprintf(format, args...))
}

// breakThings breaks something every now and then until ctx ends.
func (h *history) breakThings(ctx context.Context, t testing.TB) {
	admin := harness.Dial(t, "tcp", h.Addr)
	defer admin.Close()
	ask := func(args ...string) any {
		admin.Write([]byte(harness.Command(args...)))
		reply, _ := admin.ReplyWithin(harness.Patience)
		value, _, _ := stage.ParseOne(reply)
		return value
	}
	random := rand.New(rand.NewPCG(1, 1000))
	for ctx.Err() == nil {
		time.Sleep(time.Duration(20+random.IntN(60)) * time.Millisecond) // things go well for a moment
		switch random.IntN(5) {
		case 0, 1, 2: // any connection but those of the test: waiters' and holders' lanes, the proxies' own
			list, _ := ask("CLIENT", "LIST", "TYPE", [...]string{"normal", "normal", "pubsub"}[random.IntN(3)]).(string)
			if p := pickPeer(list, random); p != nil && p["psub"] == "0" && p["laddr"] != "" && p["cmd"] != "client|list" {
				ask("CLIENT", "KILL", "ID", p["id"])
			}
		case 3:
			ask("SCRIPT", "FLUSH")
		default:
			p := h.Proxies[random.IntN(len(h.Proxies))]
			p.Signal(t, syscall.SIGSTOP)
			time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond)
			p.Signal(t, syscall.SIGCONT)
		}
	}
}

func pickPeer(list string, random *rand.Rand) stage.Peer {
	all := stage.ParsePeers(list)
	if len(all) == 0 {
		return nil
	}
	return all[random.IntN(len(all))]
}
