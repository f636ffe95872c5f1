package recipes

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// rotations are the languages, each of them at each place once.
var rotations = [][]string{{"go", "node", "python"}, {"node", "python", "go"}, {"python", "go", "node"}}

func TestTheNextLeadsWhenTheLeaderIsDeposedOrDiesOrLosesItsProxy(t *testing.T) {
	t.Parallel()
	for _, languages := range rotations {
		t.Run(strings.Join(languages, " "), func(t *testing.T) {
			t.Parallel()
			s := startScene(t, "--ks-lock-ttl", "1000")
			candidates := make([]*program, len(languages))
			var fence int64
			leads := func(i int) {
				t.Helper()
				next, err := strconv.ParseInt(candidates[i].hear(t, "leads "+languages[i]), 10, 64)
				noError(t, err)
				if next <= fence {
					t.Errorf("fence %d after %d", next, fence)
				}
				fence = next
			}
			for i, language := range languages {
				candidates[i] = s.start(t, language, "lead", i%2, "shop:leader", language)
				if i == 0 {
					leads(0)
				}
				s.AwaitLine(t, "shop:leader", i)
			}
			watcher := s.shell(t, []string{"Leader election"})
			if status := watcher.hear(t, ""); status != "held" {
				t.Errorf("the status begins with %q", status)
			}
			s.Must(t, "DEL", "shop/lock:leader") // as if Redis had lost it
			candidates[0].hear(t, "deposed")
			leads(1)
			candidates[1].kill()
			leads(2)
			said := watcher.end(t) // whichever of the two it has seen
			equal(t, "what KS.WAIT says", said[len(said)-1], "1")
			equal(t, "who stands in line", len(s.Line(t, "shop:leader")), 0)

			s.Proxies[0].Kill(t)
			candidates[2].exit(t)
		})
	}
}

func TestManyWorkersDoEachJobOnce(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	jobs := []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"}
	var workers []*program
	for i, language := range everywhere { // each begins elsewhere, and comes to what others have done
		workers = append(workers, s.start(t, language, "claim", i%2, slices.Concat([]string{language}, jobs[3*i:], jobs[:3*i])...))
	}
	together(t, workers)
	equal(t, "jobs done", s.Must(t, "HLEN", "jobs:done"), any(int64(9)))
	equal(t, "jobs begun", s.Must(t, "LLEN", "jobs:begun"), any(int64(9)))
}

func TestAWorkerThatHasLostItsJobCannotMarkIt(t *testing.T) {
	t.Parallel()
	for i, language := range everywhere {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			s := startScene(t)
			begin := func(language, who string) *program {
				p := s.start(t, language, "claim", 0, who, "slow")
				p.hear(t, "ready")
				p.tell("go")
				p.hear(t, "works")
				return p
			}
			stale := begin(language, "stale")
			s.Must(t, "DEL", "job/lock:slow") // its lease has run out
			fresh := begin(everywhere[(i+1)%3], "fresh")
			stale.tell("on")
			equal(t, "the stale worker's mark", stale.hear(t, "lost"), "slow")
			fresh.tell("on")
			fresh.end(t)
			stale.end(t)
			equal(t, "the job is done by", s.Must(t, "HGET", "jobs:done", "slow"), any("fresh"))
		})
	}
}

func TestTransfersKeepTheSumAndNeverBlockEachOther(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	accounts := []string{"account:alice", "account:bob", "account:carol"}
	for _, a := range accounts {
		s.Must(t, "SET", a, "100")
	}
	sum := func() (sum int) {
		for _, v := range s.Words(t, append([]string{"MGET"}, accounts...)...) {
			n, err := strconv.Atoi(v)
			noError(t, err)
			sum += n
		}
		return sum
	}
	var clerks []*program
	for i, language := range []string{"go", "node", "python", "go"} {
		clerks = append(clerks, s.start(t, language, "transfer", i%2, append([]string{"25"}, accounts...)...))
	}
	done, audited := make(chan struct{}), make(chan int)
	go func() {
		wrong := 0
		for open := true; open; {
			select {
			case <-done:
				open = false
			default:
			}
			if sum() != 300 {
				wrong++
			}
		}
		audited <- wrong
	}()
	together(t, clerks)
	close(done)
	equal(t, "wrong sums seen", <-audited, 0)
	equal(t, "the sum", sum(), 300)
}

func TestALimitHoldsForAllCallersTogether(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	var callers []*program
	for i, language := range everywhere {
		callers = append(callers, s.start(t, language, "limit", i%2, "limit:mail", "3", "300", "6"))
	}
	for _, p := range callers {
		p.hear(t, "ready")
	}
	began := time.Now()
	for _, p := range callers {
		p.tell("go")
	}
	for _, p := range callers {
		equal(t, "turns", len(p.end(t)), 6)
	}
	took := time.Since(began)
	// Of 18 turns, 3 in 300 ms, the last can't come before 5 such periods are over.
	t.Logf("18 turns, 3 in 300 ms, took %v; 1.5 s is the least", took)
	if took < 1490*time.Millisecond {
		t.Errorf("18 turns, 3 in 300 ms, took only %v", took)
	}
}

func TestAnUpdateBeginsAnewWhenItsLockIsLost(t *testing.T) {
	t.Parallel()
	for _, language := range everywhere {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			s := startScene(t)
			s.Must(t, "SET", "profile:7", "a")
			p := s.start(t, language, "update", 0, "profile:7", "c")
			equal(t, "it has read", p.hear(t, "read"), "a")
			s.Must(t, "DEL", "profile/lock:7")  // its lease has run out,
			s.Must(t, "SET", "profile:7", "ab") // and somebody else has written
			p.tell("on")
			equal(t, "it has read", p.hear(t, "read"), "ab")
			p.tell("on")
			p.end(t)
			equal(t, "the value", s.get(t, "profile:7"), "abc")
		})
	}
}

// Three machines have the same line in their crontab.
func TestOneMachineRunsTheCronJob(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	machines := make([]*program, 3)
	for i := range machines {
		// What comes between the job and the end is as long as the test likes.
		machines[i] = s.shell(t, []string{"A cron job that runs once"}, "nightly", "echo in $KS_LOCK_FENCE", "sleep", "exec cat")
		if i == 0 {
			machines[0].hear(t, "in")
			continue
		}
		equal(t, "words of a machine that has nothing to do", strings.Join(machines[i].end(t), "\n"), "")
		equal(t, "its complaints", machines[i].complaints.String(), "")
	}
	machines[0].input.Close()
	machines[0].end(t)
	again := s.shell(t, []string{"A cron job that runs once"}, "nightly", "echo in $KS_LOCK_FENCE; exit 3", "sleep", "exit")
	again.hear(t, "in")
	_, err := again.exit(t)
	if err == nil || again.cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("a job that fails with 3 ends with %v", err)
	}
}
