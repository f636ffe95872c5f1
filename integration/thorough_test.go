package integration

import (
	"bytes"
	"cmp"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

func command(args ...string) string { return harness.Command(args...) }

var ksHelp = command("KS.HELP")

// checkThoroughly runs each scenario three times: as it is; with its input cut
// at many places; and with a KS command before and after each piece of input,
// which is answered in its place only if the proxy's count of the replies
// before it is exact.
func (p *pair) checkThoroughly(t *testing.T, scenarios []scenario) {
	slices.SortFunc(scenarios, func(a, b scenario) int { return cmp.Compare(a.name, b.name) })
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			p.mustEqual(t, sc)
			p.mustEqual(t, sc.cut())
			if sc.withoutKS {
				return
			}
			p.mustEqual(t, sc.withBarriers())
			if !*diffSelf && sc.pipes == "" && !sc.contains("MULTI") {
				p.mustHaveAnswered(t)
			}
		})
	}
}

func (p *pair) mustEqual(t *testing.T, sc scenario) {
	t.Helper()
	if m := p.run(t, sc); m != nil {
		t.Fatalf("%v\nscenario:\n%v", m, sc)
	}
}

// cut cuts all input at places that depend on the scenario only.
func (sc scenario) cut() scenario {
	hash := fnv.New64()
	hash.Write([]byte(sc.name))
	rng := rand.New(rand.NewPCG(hash.Sum64(), 1))
	sc.steps = slices.Clone(sc.steps)
	for i := range sc.steps {
		if st := &sc.steps[i]; !sc.uncut && st.op == opSend && len(st.cuts) == 0 && len(st.data) > 1 {
			st.cuts = randomCuts(rng, len(st.data))
		}
	}
	return sc
}

// randomCuts returns up to eight increasing places inside n bytes.
func randomCuts(rng *rand.Rand, n int) []int {
	cuts := make([]int, 1+rng.IntN(8))
	for i := range cuts {
		cuts[i] = 1 + rng.IntN(n)
	}
	slices.Sort(cuts)
	return slices.Compact(cuts)
}

// withBarriers puts KS.HELP before and after the input of each step.
func (sc scenario) withBarriers() scenario {
	sc.steps = slices.Clone(sc.steps)
	for i := range sc.steps {
		if st := &sc.steps[i]; st.op == opSend {
			st.data += ksHelp
			if !sc.drops {
				st.data = ksHelp + st.data
			}
			st.cuts = nil
		}
	}
	return sc
}

// mustHaveAnswered checks that the proxy itself has answered the KS.HELP of the
// scenario that ran last, none was left to Redis.
func (p *pair) mustHaveAnswered(t *testing.T) {
	t.Helper()
	for name, reply := range p.kept {
		if passedOn := bytes.Count(reply, []byte("unknown command 'KS.HELP'")); passedOn > 0 {
			t.Errorf("%d KS.HELP on connection %s were passed on to Redis: %s", passedOn, name, abridged(strings.ReplaceAll(string(reply), p.allowed.help, "<KS>")))
		}
	}
}
