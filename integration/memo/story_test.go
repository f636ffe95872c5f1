package memo

import (
	"fmt"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

var storyScenes = []stage.Scene{{Name: "three ask for a report that takes long", Run: threeAskForAReport}}

// A report takes 15 s, and three ask for it, 10 s apart: they wait for 15 s, for 5 s and not at all, and it is made
// once. Here a second takes 150 ms.
func threeAskForAReport(t *testing.T, s *stage.Stage) {
	const (
		second = 150 * time.Millisecond
		takes  = 15 * second
		apart  = 10 * second
	)
	c := &scene{Stage: s, t: t, name: "report:of today"}
	callers := []*stage.Client{s.Client(t, 0), s.Client(t, 1), s.Client(t, 2)}
	report := callers[0].Generate(c.name, "EX", "60")
	began := time.Now()
	until := func(d time.Duration) time.Time { // the story's clock, not the test's patience
		time.Sleep(time.Until(began.Add(d)))
		return time.Now()
	}

	asked := until(apart)
	waits := s.JoinBy(callers[1], "KS.MEMO", c.name, "EX", "60")
	until(takes)
	waits.Silent("the report is not finished")
	resolved := time.Now()
	callers[0].Expect(int64(1), "KS.RESOLVE", c.name, report.Token, "the report", "EX", "60")
	first := time.Since(began)
	stage.WantValue(t, waits.Next(), "the report")
	secondWaited := time.Since(asked)
	late := time.Since(resolved)

	third := until(2 * apart)
	stage.WantValue(t, callers[2].Call("KS.MEMO", c.name, "EX", "60"), "the report")
	thirdWaited := time.Since(third)
	c.row("none: three ask 10 s apart for what takes 15 s (150 ms are 1 s)",
		fmt.Sprintf("the report is made once; they wait for %.1f, %.1f and %.1f of these seconds",
			first.Seconds()/second.Seconds(), secondWaited.Seconds()/second.Seconds(), thirdWaited.Seconds()/second.Seconds()),
		max(late, thirdWaited), soon)
	if secondWaited >= first {
		t.Errorf("the second waited for %v, the first for %v", secondWaited, first)
	}
	c.closes("the report")
}
