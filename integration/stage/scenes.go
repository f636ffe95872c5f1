package stage

import "testing"

// Scene is a test that breaks nothing but what is its own: many of them share a stage, each with
// names of its own.
type Scene struct {
	Name string
	Run  func(*testing.T, *Stage)
}

// Play runs scenes side by side on one stage, and checks that nothing of them is left.
func (o Setup) Play(t *testing.T, scenes []Scene) {
	t.Parallel()
	s := o.Start(t)
	before := s.Resources(t)
	t.Cleanup(func() { // when all have ended
		s.NothingLeft(t)
		s.AwaitResources(t, before)
	})
	for _, c := range scenes {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			c.Run(t, s)
		})
	}
}

// OnOneAndThree runs what breaks its stage on stages of its own, with one proxy and with three. The
// subtests are "<name>, one proxy" and "<name>, three proxies".
func OnOneAndThree(t *testing.T, name string, run func(t *testing.T, proxies int)) {
	t.Helper()
	t.Run(name+", one proxy", func(t *testing.T) {
		t.Parallel()
		run(t, 1)
	})
	t.Run(name+", three proxies", func(t *testing.T) {
		t.Parallel()
		run(t, 3)
	})
}
