package engine

import (
	"fmt"
	"testing"
	"time"
)

func TestABellWithAnEarlierValueIsNotForWhoCameAfterItWasForgotten(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		e := b.engine()
		s := b.session(0)
		mustResolve(t, e, s, Resolution{Token: mustGenerate(t, e, s), Value: "old", TTL: 1000})
		earlier := b.do("HGET", "likes/fence:kristoff", "n")
		if ok, err := e.Forget(t.Context(), s, name); !ok || err != nil {
			t.Fatalf("forget: %v, %v", ok, err)
		}
		token := mustGenerate(t, e, s)
		w := memoAsync(t.Context(), e, b.session(0), Request{Name: name})
		b.inLine(queue, 1)
		// The bell of the first resolve comes only now.
		e.inboxMessage("", fmt.Sprintf("v 0 %d %s %sold", len(name), earlier, name), false)
		select {
		case got := <-w:
			t.Fatalf("answered %+v", got)
		case <-time.After(50 * time.Millisecond): // it may take longer to be wrong, not to be right
		}
		b.inLine(queue, 1)
		mustResolve(t, e, s, Resolution{Token: token, Value: "new"})
		if got := wait(t, w); got.err != nil || got.Value != "new" {
			t.Errorf("got %+v", got)
		}
	})
}
