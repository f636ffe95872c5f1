package recipes

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// Five clients add to a total that each reads and writes.
func TestFiveClientsWithOneLockLoseNothing(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	s.Must(t, "SET", "shared:total", "0")
	var clients []*program
	for i, language := range []string{"go", "node", "python", "go", "node"} {
		clients = append(clients, s.start(t, language, "add", i%2, "shared:total", "40"))
	}
	together(t, clients)
	equal(t, "the total", s.get(t, "shared:total"), "200")
}

// A lock that is never given back is refused after the time the caller has, not before.
func TestPatienceOfTwoSecondsEndsAfterTwoSeconds(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	c := s.Proxies[0].Dial(t)
	c.Do(t, "KS.LOCK", "never:released", "EX", "3600")
	refused := func(t *testing.T, took time.Duration) {
		t.Helper()
		t.Logf("refused after %v", took)
		if took < 1990*time.Millisecond || took > harness.Patience {
			t.Errorf("refused after %v, want about 2 s", took)
		}
	}
	for _, language := range everywhere {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			p := s.start(t, language, "patience", 1, "never:released")
			ms, err := strconv.Atoi(p.hear(t, "nil"))
			noError(t, err)
			refused(t, time.Duration(ms)*time.Millisecond)
			p.end(t)
		})
	}
	t.Run("redis-cli", func(t *testing.T) {
		program := harness.LookPath(t, "redis-cli")
		began := time.Now()
		out, err := exec.Command(program, "-p", strconv.Itoa(s.Proxies[0].Port), "--no-raw", "KS.LOCK", "never:released", "WAIT", "2000").Output()
		noError(t, err)
		equal(t, "the reply", strings.TrimSpace(string(out)), "(nil)")
		refused(t, time.Since(began))
	})
}

// Philosophers sit around a table with a fork between any two, and need two forks to eat. First come, first
// served for each fork: while one is hungry, a chain of the four others can be before it for its first fork, and
// one of them once more for its second.
func TestPhilosophersAllEatAndNoneMuchMoreOftenThanAHungryOne(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	const seats, meals, fair = 5, 10, 2 * 5
	var table []*program
	for i := range seats {
		left, right := "fork:"+strconv.Itoa(i), "fork:"+strconv.Itoa((i+1)%seats)
		table = append(table, s.start(t, everywhere[i%3], "dine", i%2, strconv.Itoa(i), left, right, strconv.Itoa(meals)))
	}
	together(t, table)

	state := make([]string, seats)
	eaten := make([]int, seats)
	passed := make([][seats]int, seats) // how often each has eaten since one began to be hungry
	most := 0
	for _, line := range s.Words(t, "LRANGE", "meals", "0", "-1") {
		who, what, _ := strings.Cut(line, " ")
		i, err := strconv.Atoi(who)
		noError(t, err)
		if state[i] = what; what != "begins" {
			continue
		}
		eaten[i]++
		passed[i] = [seats]int{}
		for _, neighbour := range []int{(i + 1) % seats, (i + seats - 1) % seats} {
			if state[neighbour] == "begins" {
				t.Errorf("philosophers %d and %d eat with the same fork", i, neighbour)
			}
		}
		for j := range seats {
			if state[j] == "hungers" {
				passed[j][i]++
				most = max(most, passed[j][i])
			}
		}
	}
	for i, n := range eaten {
		equal(t, "meals of philosopher "+strconv.Itoa(i), n, meals)
	}
	t.Logf("while one was hungry, another ate %d times at most", most)
	if most > fair {
		t.Errorf("while one was hungry, another ate %d times, want %d at most", most, fair)
	}
}
