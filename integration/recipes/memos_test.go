package recipes

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

func TestTheDatabaseIsReadOnceAndAgainAfterAChange(t *testing.T) {
	t.Parallel()
	for _, languages := range rotations {
		t.Run(strings.Join(languages, " "), func(t *testing.T) {
			t.Parallel()
			s := startScene(t)
			first := s.start(t, languages[0], "user", 0, "7")
			equal(t, "asked for", first.hear(t, "select"), "7")
			second := s.start(t, languages[1], "user", 1, "7")
			s.AwaitLine(t, "user:7", 1)
			first.tell("kristoff")
			for _, p := range []*program{first, second, s.start(t, languages[2], "user", 0, "7")} {
				equal(t, "the user", p.hear(t, "value"), "kristoff")
				p.end(t)
			}

			// What was read before the change is not kept after it.
			s.Must(t, "DEL", "user:7")
			late := s.start(t, languages[0], "user", 0, "7")
			late.hear(t, "select")
			waits := s.start(t, languages[1], "user", 1, "7")
			s.AwaitLine(t, "user:7", 1)
			promise := s.Owner(t, "user:7")
			renames := s.start(t, languages[2], "rename", 1, "7", "sven")
			equal(t, "changed", renames.hear(t, "update"), "7 sven")
			renames.tell("done")
			renames.end(t)
			if s.Owner(t, "user:7") == promise {
				t.Error("the promise to make the old value stands")
			}
			waits.hear(t, "select")
			late.tell("kristoff")
			late.hear(t, "value")
			late.end(t)
			waits.tell("sven")
			equal(t, "the user", waits.hear(t, "value"), "sven")
			waits.end(t)
			equal(t, "the value", s.get(t, "user:7"), "sven")
		})
	}
}

func TestThatThereIsNoneIsKeptForAWhile(t *testing.T) {
	t.Parallel()
	for i, language := range everywhere {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			s := startScene(t)
			p := s.start(t, language, "user", 0, "404")
			p.hear(t, "select")
			p.tell("none")
			equal(t, "the answer", p.hear(t, "error"), "no such user")
			for j, other := range everywhere {
				q := s.start(t, other, "user", j%2, "404") // is not asked to look
				if said := q.hear(t, "error"); !strings.HasSuffix(said, "no such user") {
					t.Errorf("%s is told %q", other, said)
				}
				q.end(t)
			}
			s.expiresWithin(t, "user/error:404", 10*time.Second)

			p = s.start(t, language, "user", 0, "8")
			p.hear(t, "select")
			p.tell("broken down")
			equal(t, "the answer", p.hear(t, "error"), "broken down")
			again := s.start(t, everywhere[(i+1)%3], "user", 0, "8")
			again.hear(t, "select") // what broke is tried again
			again.tell("olaf")
			equal(t, "the user", again.hear(t, "value"), "olaf")

			p = s.start(t, language, "nickname", 0, "7")
			p.hear(t, "select")
			p.tell("none")
			equal(t, "the nickname", p.hear(t, "value"), "")
			for j, other := range everywhere {
				equal(t, "the nickname", s.start(t, other, "nickname", j%2, "7").hear(t, "value"), "")
			}
			s.expiresWithin(t, "nickname:7", time.Minute)
		})
	}
}

// expiresWithin checks that a key ends, and when at the latest.
func (s *scene) expiresWithin(t *testing.T, key string, most time.Duration) {
	t.Helper()
	ttl := time.Duration(s.Must(t, "PTTL", key).(int64)) * time.Millisecond
	if ttl <= 0 || ttl > most {
		t.Errorf("%s ends in %v, want %v at most", key, ttl, most)
	}
}

// Three ask for a report that takes 15, one every 10: they wait for 15, for 5 and not at all. A second is 0.1 s here.
func TestASlowReportIsMadeOnceForAllWhoAsk(t *testing.T) {
	t.Parallel()
	for _, languages := range rotations {
		t.Run(strings.Join(languages, " "), func(t *testing.T) {
			t.Parallel()
			s := startScene(t)
			const report, pause = 1500 * time.Millisecond, time.Second
			callers := make([]*program, 3)
			for i, language := range languages {
				callers[i] = s.start(t, language, "report", i%2, strconv.Itoa(int(report.Milliseconds())))
				callers[i].hear(t, "ready")
			}
			for i, p := range callers {
				if i > 0 {
					time.Sleep(pause) // the scene itself
				}
				p.tell("go")
				if i == 0 {
					p.hear(t, "computes")
				}
			}
			waited := make([]time.Duration, 3)
			for i, p := range callers {
				ms, err := strconv.Atoi(p.hear(t, "has the report")) // and none but the first computes
				noError(t, err)
				waited[i] = time.Duration(ms) * time.Millisecond
				p.end(t)
			}
			t.Logf("waited for %v", waited)
			if waited[0] < report || waited[1] >= waited[0] || waited[2] >= waited[0] {
				t.Errorf("waited for %v, want 1.5 s, 0.5 s and hardly at all", waited)
			}
		})
	}
}

func TestAWorkerMakesTheValueAndAnotherOneIfItDies(t *testing.T) {
	t.Parallel()
	for _, languages := range rotations {
		t.Run(strings.Join(languages, " "), func(t *testing.T) {
			t.Parallel()
			s := startScene(t)
			var callers []*program
			for i, language := range languages {
				callers = append(callers, s.start(t, language, "ordered", i%2, "picture:big one"))
			}
			s.AwaitLine(t, "picture:big one", 3)
			dies := s.start(t, languages[0], "serve", 0)
			dies.hear(t, "makes")
			equal(t, "orders", s.Must(t, "LLEN", "orders"), any(int64(0)))
			late := s.start(t, languages[2], "serve", 1)
			dies.kill()
			token := s.Owner(t, "picture:big one")
			s.Must(t, "DEL", "picture/lock:big one") // its lease has run out: it is ordered again
			late.hear(t, "makes")
			if s.Owner(t, "picture:big one") == token {
				t.Error("the token is the same again")
			}
			s.Must(t, "LPUSH", "orders", token+" picture:big one") // the first order comes late, and is passed over
			s.start(t, languages[1], "serve", 0).end(t)
			late.tell("a picture")
			late.end(t)
			for _, p := range callers {
				equal(t, "the value", p.hear(t, "value"), "a picture")
				p.end(t)
			}
		})
	}
}

func TestTheShellComputesOnceToo(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	runs := filepath.Join(t.TempDir(), "runs")
	wait := `echo run >>` + runs + `; until [ -e ` + runs + `.go ]; do sleep 0.01; done; echo "kristoff  of arendelle"`
	recipe := []string{"A database is read through a cache"}
	first := s.shell(t, recipe, "select_user", wait)
	stage.Eventually(t, "it selects", func() bool { _, err := os.Stat(runs); return err == nil })
	second := s.shell(t, recipe, "select_user", wait)
	s.AwaitLine(t, "user:7", 1)
	noError(t, os.WriteFile(runs+".go", nil, 0o600))
	for _, p := range []*program{first, second, s.shell(t, recipe, "select_user", wait)} {
		if said := p.end(t); !slices.Equal(said, []string{"kristoff  of arendelle"}) {
			t.Errorf("%q", said)
		}
	}
	s.Must(t, "DEL", "user:7")
	fails := s.shell(t, recipe, "select_user", "exit 1")
	if said, err := fails.exit(t); err == nil || len(said) > 0 {
		t.Errorf("%q, %v", said, err)
	}
	told := s.shell(t, recipe, "select_user", wait)
	_, err := told.exit(t)
	if err == nil || !strings.Contains(told.complaints.String(), "MEMOERR select_user 7 failed") {
		t.Errorf("%v: %s", err, told.complaints.String())
	}
	text, err := os.ReadFile(runs)
	noError(t, err)
	equal(t, "runs", string(text), "run\n")
}

func TestTheShellOrdersAndServesAndKeepsNothingness(t *testing.T) {
	s := startScene(t)
	said := s.shell(t, []string{"A value that somebody else makes"}, "make_picture", `echo "picture of $1"`).end(t)
	equal(t, "the value", strings.Join(said, " "), "value picture of picture:7")

	cached := []string{"A database is read through a cache", "A slow report"}
	said = s.shell(t, cached, "select_user", "echo kristoff", "make_report", `echo "report of $1"`).end(t)
	equal(t, "the values", strings.Join(said, ", "), "kristoff, report of 2026-11")

	c := s.Client(t, 0)
	c.Call("KS.MEMO", "user:404", "TOKEN", "t")
	c.Call("KS.MEMO", "nickname:7", "TOKEN", "t")
	t.Setenv("token", "t")
	said = s.shell(t, []string{"There is no such thing"}).end(t)
	equal(t, "the replies", strings.Join(said, " "), "1 1")
	c.Expect(stage.Refusal("MEMOERR no such user"), "KS.MEMO", "user:404")
	stage.WantValue(t, c.Call("KS.MEMO", "nickname:7"), "")
}

func TestTheOldValueIsServedWhileTheNextIsMade(t *testing.T) {
	t.Parallel()
	for _, languages := range rotations {
		t.Run(strings.Join(languages, " "), func(t *testing.T) {
			t.Parallel()
			s := startScene(t)
			first := s.start(t, languages[0], "refreshed", 0, "100")
			first.hear(t, "computes")
			first.tell("snow")
			equal(t, "the weather", first.hear(t, "value"), "snow")
			stage.Eventually(t, "the weather is old", func() bool { return s.get(t, "weather:arendelle") == "" })

			second := s.start(t, languages[1], "refreshed", 1, "60000")
			second.hear(t, "computes")
			for i, language := range languages {
				p := s.start(t, language, "refreshed", i%2, "100")
				equal(t, "the weather meanwhile", p.hear(t, "value"), "snow")
				p.end(t)
			}
			second.tell("sun")
			equal(t, "the weather", second.hear(t, "value"), "sun")
			second.end(t)
			third := s.start(t, languages[2], "refreshed", 0, "100")
			equal(t, "the weather", third.hear(t, "value"), "sun")
		})
	}
}

func TestTheShellIsToldThatAValueIsOld(t *testing.T) {
	s := startScene(t)
	c := s.Client(t, 0)
	c.Call("KS.MEMO", "weather:arendelle", "TOKEN", "t")
	t.Setenv("token", "t")
	said := s.shell(t, []string{"An old value while the next is made"}).end(t)
	if len(said) != 5 || said[0] != "1" || said[1] != "generate" || said[3] != "stale" || said[4] != "snow" {
		t.Errorf("%q", said)
	}
}
