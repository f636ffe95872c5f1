package faults

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
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// Injector breaks things in a Field until its time is over, and then mends them all. Random decides what and when.
type Injector struct {
	*Field
	T      testing.TB
	Random *rand.Rand
	Count  func(what string) // is told what breaks

	// Least and Most bound how long things go well in between; zero is 40 ms and a fifth of a second more.
	Least, Most time.Duration
	// Longest bounds how long a proxy or a link of it stands still; zero is 6 s.
	Longest time.Duration
	// Rest is how long a proxy of which something was broken is left alone.
	Rest time.Duration
	// Lost is told from when until when Redis lost its data; nil: it never does, else it does whenever it is restarted,
	// the first time soon.
	Lost func(from, to time.Time)
	// Enough ends Run before its time; nil: nothing does.
	Enough func() bool

	broken [Proxies]func() // mends what is broken of each proxy; nil: nothing is
	until  [Proxies]time.Time
	admin  *harness.Conn
}

// kinds are the things that break, as often as their weight says.
var kinds = []struct {
	weight int
	happen func(*Injector)
}{
	{24, (*Injector).killConnection},
	{8, (*Injector).killOwnConnection},
	{6, (*Injector).flushScripts},
	{7, (*Injector).freezeProxy},
	{4, (*Injector).killProxy},
	{6, (*Injector).cutLinks},
	{6, (*Injector).stallLinks},
	{6, (*Injector).stallOneLink},
	{4, (*Injector).slowLinks},
	{4, (*Injector).pauseClients},
	{4, (*Injector).hangRedis},
	{2, (*Injector).restartRedis},
}

// Run returns when all is mended.
func (f *Injector) Run(end time.Time) {
	f.defaults()
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	if f.Lost != nil {
		time.Sleep(f.upTo(500 * time.Millisecond)) // somebody holds something by then
		f.restartRedis()
	}
	for time.Now().Before(end) && (f.Enough == nil || !f.Enough()) {
		time.Sleep(f.Least + f.upTo(f.Most-f.Least)) // things go well for a moment
		f.mend(time.Now())
		n := f.Random.IntN(total)
		for _, k := range kinds {
			if n -= k.weight; n < 0 {
				k.happen(f)
				break
			}
		}
	}
	f.mend(time.Now().Add(time.Hour))
	f.do("CLIENT", "UNPAUSE")
	f.admin.Close()
}

func (f *Injector) defaults() {
	if f.Most == 0 {
		f.Least, f.Most = 40*time.Millisecond, 240*time.Millisecond
	}
	if f.Longest == 0 {
		f.Longest = 6 * time.Second
	}
}

func (f *Injector) upTo(most time.Duration) time.Duration {
	return time.Duration(f.Random.Int64N(int64(most)))
}

// between is a time from least to most, short ones more often.
func (f *Injector) between(least, most time.Duration) time.Duration {
	x := f.Random.Float64()
	return least + time.Duration(x*x*x*float64(most-least))
}

// mend ends what should not last beyond now.
func (f *Injector) mend(now time.Time) {
	for i, mend := range f.broken {
		if mend != nil && now.After(f.until[i]) {
			f.broken[i] = nil
			mend()
			f.until[i] = time.Now().Add(f.Rest)
		}
	}
}

// breaks chooses a proxy of which nothing is broken; what it returns is for mending it later.
func (f *Injector) breaks(what string) (i int, later func(after time.Duration, mend func()), ok bool) {
	if i = f.Random.IntN(Proxies); f.broken[i] != nil || f.Rest > 0 && time.Now().Before(f.until[i]) {
		return 0, nil, false
	}
	f.Count(what)
	return i, func(after time.Duration, mend func()) {
		f.until[i], f.broken[i] = time.Now().Add(after), mend
	}, true
}

// do asks Redis itself; nil when that fails.
func (f *Injector) do(args ...string) any {
	if f.admin != nil {
		if _, end := f.admin.Received(); end != harness.Open {
			f.admin.Close()
			f.admin = nil
		}
	}
	if f.admin == nil {
		f.admin = harness.Dial(f.T, "tcp", f.Redis.Addr)
	}
	if _, err := f.admin.Write([]byte(harness.Command(args...))); err != nil {
		return nil
	}
	reply, err := f.admin.ReplyWithin(harness.Patience)
	if err != nil {
		return nil
	}
	value, _, _ := stage.ParseOne(reply)
	return value
}

func (f *Injector) killConnection()    { f.killOneOf("CLIENT KILL of a lane", false) }
func (f *Injector) killOwnConnection() { f.killOneOf("CLIENT KILL of a proxy's own connection", true) }

func (f *Injector) killOneOf(what string, own bool) {
	list, _ := f.do("CLIENT", "LIST").(string)
	var ids []string
	for line := range strings.Lines(list) {
		if strings.Contains(line, " name=keysmith-proxy ") == own && !strings.Contains(line, "cmd=client|list") {
			id, _, _ := strings.Cut(strings.TrimPrefix(line, "id="), " ")
			ids = append(ids, id)
		}
	}
	if len(ids) > 0 {
		f.Count(what)
		f.do("CLIENT", "KILL", "ID", ids[f.Random.IntN(len(ids))])
	}
}

func (f *Injector) flushScripts() {
	f.Count("SCRIPT FLUSH")
	f.do("SCRIPT", "FLUSH")
}

func (f *Injector) freezeProxy() {
	i, later, ok := f.breaks("proxy frozen")
	if !ok {
		return
	}
	p := f.Proxy(i)
	p.Signal(f.T, syscall.SIGSTOP)
	later(f.between(100*time.Millisecond, f.Longest), func() { p.Signal(f.T, syscall.SIGCONT) })
}

func (f *Injector) killProxy() {
	i, later, ok := f.breaks("proxy killed")
	if !ok {
		return
	}
	f.Proxy(i).Kill(f.T)
	later(f.between(50*time.Millisecond, 4*time.Second), func() { f.StartProxy(f.T, i) })
}

func (f *Injector) cutLinks() {
	i, later, ok := f.breaks("links cut")
	if !ok {
		return
	}
	relay := f.Relays[i]
	relay.Refuse(f.Random.IntN(2) == 0)
	relay.Cut()
	later(f.upTo(500*time.Millisecond), func() { relay.Refuse(false) })
}

func (f *Injector) stallLinks() {
	i, later, ok := f.breaks("links stalled")
	if !ok {
		return
	}
	links := f.Relays[i].Links()
	for _, l := range links {
		l.Stall()
	}
	cut := f.Random.IntN(3) == 0
	later(f.between(50*time.Millisecond, f.Longest*5/6), func() { release(links, cut) })
}

// stallOneLink holds up one connection in the middle of whatever it sends.
func (f *Injector) stallOneLink() {
	i, later, ok := f.breaks("one link stalled halfway")
	if !ok {
		return
	}
	links := f.Relays[i].Links()
	if len(links) == 0 {
		return
	}
	link := links[f.Random.IntN(len(links))]
	if f.Random.IntN(2) == 0 {
		link.LimitUp(f.Random.IntN(300))
	} else {
		link.LimitDown(f.Random.IntN(100))
	}
	cut := f.Random.IntN(2) == 0
	later(f.between(100*time.Millisecond, f.Longest*2/3), func() { release([]*harness.Link{link}, cut) })
}

func release(links []*harness.Link, cut bool) {
	for _, l := range links {
		if cut {
			l.CutClient()
		}
		l.Resume()
	}
}

func (f *Injector) slowLinks() {
	i, later, ok := f.breaks("links slow")
	if !ok {
		return
	}
	relay := f.Relays[i]
	relay.Delay(f.upTo(40 * time.Millisecond))
	later(f.upTo(time.Second), func() { relay.Delay(0) })
}

func (f *Injector) pauseClients() {
	f.Count("CLIENT PAUSE")
	ms := strconv.Itoa(20 + f.Random.IntN(700))
	f.do("CLIENT", "PAUSE", ms, [...]string{"ALL", "WRITE"}[f.Random.IntN(2)])
}

func (f *Injector) hangRedis() {
	f.Count("DEBUG SLEEP")
	seconds := f.between(20*time.Millisecond, 1500*time.Millisecond).Seconds()
	f.do("DEBUG", "SLEEP", strconv.FormatFloat(seconds, 'f', 3, 64))
}

func (f *Injector) restartRedis() {
	what := "redis killed, restarted with its data"
	if f.Lost != nil {
		what = "redis killed, restarted without its data"
	}
	f.Count(what)
	began := time.Now()
	f.Redis.Kill(f.T)
	time.Sleep(f.upTo(400 * time.Millisecond)) // Redis is away
	if f.Lost != nil {
		if err := os.RemoveAll(filepath.Join(f.Redis.Dir, "appendonlydir")); err != nil {
			f.T.Fatal(err)
		}
	}
	f.Redis.Restart(f.T)
	if f.Lost != nil {
		f.Lost(began, time.Now())
	}
}
