package chaos

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// faults breaks things until its time is over, and then mends them all.
type faults struct {
	*round
	t      testing.TB
	random *rand.Rand
	admin  *harness.Conn
	broken [proxies]func() // mends what is broken of each proxy; nil: nothing is
	until  [proxies]time.Time
}

// kinds are the things that break, as often as their weight says.
var kinds = []struct {
	weight int
	happen func(*faults)
}{
	{24, (*faults).killConnection},
	{8, (*faults).killOwnConnection},
	{6, (*faults).flushScripts},
	{7, (*faults).freezeProxy},
	{4, (*faults).killProxy},
	{6, (*faults).cutLinks},
	{6, (*faults).stallLinks},
	{6, (*faults).stallOneLink},
	{4, (*faults).slowLinks},
	{4, (*faults).pauseClients},
	{4, (*faults).hangRedis},
	{2, (*faults).restartRedis},
}

func (f *faults) run(end time.Time) {
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	if f.loses {
		time.Sleep(f.upTo(500 * time.Millisecond)) // somebody holds something by then
		f.restartRedis()
	}
	for time.Now().Before(end) {
		time.Sleep(40*time.Millisecond + f.upTo(200*time.Millisecond)) // things go well for a moment
		f.mend(time.Now())
		n := f.random.IntN(total)
		for _, k := range kinds {
			if n -= k.weight; n < 0 {
				k.happen(f)
				break
			}
		}
	}
	f.mend(time.Now().Add(time.Hour))
	f.do("CLIENT", "UNPAUSE")
}

func (f *faults) upTo(most time.Duration) time.Duration {
	return time.Duration(f.random.Int64N(int64(most)))
}

// between is a time from least to most, short ones more often.
func (f *faults) between(least, most time.Duration) time.Duration {
	x := f.random.Float64()
	return least + time.Duration(x*x*x*float64(most-least))
}

// mend ends what should not last beyond now.
func (f *faults) mend(now time.Time) {
	for i, mend := range f.broken {
		if mend != nil && now.After(f.until[i]) {
			f.broken[i] = nil
			mend()
		}
	}
}

// breaks chooses a proxy of which nothing is broken; what it returns is for mending it later.
func (f *faults) breaks(what string) (i int, later func(after time.Duration, mend func()), ok bool) {
	if i = f.random.IntN(proxies); f.broken[i] != nil {
		return 0, nil, false
	}
	f.count(what)
	return i, func(after time.Duration, mend func()) {
		f.until[i], f.broken[i] = time.Now().Add(after), mend
	}, true
}

// do asks Redis itself; nil when that fails.
func (f *faults) do(args ...string) any {
	if f.admin != nil {
		if _, end := f.admin.Received(); end != harness.Open {
			f.admin.Close()
			f.admin = nil
		}
	}
	if f.admin == nil {
		f.admin = harness.Dial(f.t, "tcp", f.redis.Addr)
	}
	f.admin.Write([]byte(harness.Command(args...)))
	reply, err := f.admin.ReplyWithin(harness.Patience)
	if err != nil {
		return nil
	}
	value, _, _ := parse(reply)
	return value
}

func (f *faults) killConnection()    { f.killOneOf("CLIENT KILL of a lane", false) }
func (f *faults) killOwnConnection() { f.killOneOf("CLIENT KILL of a proxy's own connection", true) }

func (f *faults) killOneOf(what string, own bool) {
	list, _ := f.do("CLIENT", "LIST").(string)
	var ids []string
	for line := range strings.Lines(list) {
		if strings.Contains(line, " name=keysmith-proxy ") == own && !strings.Contains(line, "cmd=client|list") {
			id, _, _ := strings.Cut(strings.TrimPrefix(line, "id="), " ")
			ids = append(ids, id)
		}
	}
	if len(ids) > 0 {
		f.count(what)
		f.do("CLIENT", "KILL", "ID", ids[f.random.IntN(len(ids))])
	}
}

func (f *faults) flushScripts() {
	f.count("SCRIPT FLUSH")
	f.do("SCRIPT", "FLUSH")
}

func (f *faults) freezeProxy() {
	i, later, ok := f.breaks("proxy frozen")
	if !ok {
		return
	}
	p := f.process(i)
	p.Signal(f.t, syscall.SIGSTOP)
	later(f.between(100*time.Millisecond, 6*time.Second), func() { p.Signal(f.t, syscall.SIGCONT) })
}

func (f *faults) killProxy() {
	i, later, ok := f.breaks("proxy killed")
	if !ok {
		return
	}
	f.process(i).Kill(f.t)
	later(f.between(50*time.Millisecond, 4*time.Second), func() { f.startProxy(f.t, i) })
}

func (f *faults) cutLinks() {
	i, later, ok := f.breaks("links cut")
	if !ok {
		return
	}
	relay := f.relays[i]
	relay.Refuse(f.random.IntN(2) == 0)
	relay.Cut()
	later(f.upTo(500*time.Millisecond), func() { relay.Refuse(false) })
}

func (f *faults) stallLinks() {
	i, later, ok := f.breaks("links stalled")
	if !ok {
		return
	}
	links := f.relays[i].Links()
	for _, l := range links {
		l.Stall()
	}
	cut := f.random.IntN(3) == 0
	later(f.between(50*time.Millisecond, 5*time.Second), func() { release(links, cut) })
}

// stallOneLink holds up one connection in the middle of whatever it sends.
func (f *faults) stallOneLink() {
	i, later, ok := f.breaks("one link stalled halfway")
	if !ok {
		return
	}
	links := f.relays[i].Links()
	if len(links) == 0 {
		return
	}
	link := links[f.random.IntN(len(links))]
	if f.random.IntN(2) == 0 {
		link.LimitUp(f.random.IntN(300))
	} else {
		link.LimitDown(f.random.IntN(100))
	}
	cut := f.random.IntN(2) == 0
	later(f.between(100*time.Millisecond, 4*time.Second), func() { release([]*harness.Link{link}, cut) })
}

func release(links []*harness.Link, cut bool) {
	for _, l := range links {
		if cut {
			l.CutClient()
		}
		l.Resume()
	}
}

func (f *faults) slowLinks() {
	i, later, ok := f.breaks("links slow")
	if !ok {
		return
	}
	relay := f.relays[i]
	relay.Delay(f.upTo(40 * time.Millisecond))
	later(f.upTo(time.Second), func() { relay.Delay(0) })
}

func (f *faults) pauseClients() {
	f.count("CLIENT PAUSE")
	ms := strconv.Itoa(20 + f.random.IntN(700))
	f.do("CLIENT", "PAUSE", ms, [...]string{"ALL", "WRITE"}[f.random.IntN(2)])
}

func (f *faults) hangRedis() {
	f.count("DEBUG SLEEP")
	seconds := f.between(20*time.Millisecond, 1500*time.Millisecond).Seconds()
	f.do("DEBUG", "SLEEP", strconv.FormatFloat(seconds, 'f', 3, 64))
}

func (f *faults) restartRedis() {
	what := "redis killed, restarted with its data"
	if f.loses {
		what = "redis killed, restarted without its data"
	}
	f.count(what)
	began := f.now()
	f.redis.Kill(f.t)
	time.Sleep(f.upTo(400 * time.Millisecond)) // Redis is away
	if f.loses {
		if err := os.RemoveAll(filepath.Join(f.redis.Dir, "appendonlydir")); err != nil {
			f.t.Fatal(err)
		}
	}
	f.redis.Restart(f.t)
	if f.loses {
		f.lost(began, f.now())
	}
}
