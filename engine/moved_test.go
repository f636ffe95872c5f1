package engine

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestWhoIsNeverFoundIsLookedForSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m moved
		looks := func(span time.Duration, found bool) (n int) {
			for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
				if m.due() {
					n++
					m.found(found)
				}
			}
			return n
		}
		for _, c := range []struct {
			span  time.Duration
			found bool
			want  int
		}{
			{time.Minute, true, 20},       // every 3 s
			{10 * time.Minute, false, 13}, // after 3, 6, 12, ... 60 s
			{3 * time.Minute, true, 50},   // the first after half a minute
		} {
			if n := looks(c.span, c.found); n != c.want {
				t.Errorf("%d looks in %v, want %d", n, c.span, c.want)
			}
		}
	})
}
