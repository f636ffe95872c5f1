package commands

import (
	"strings"
	"testing"
)

func TestGuardRefusesWhatChangesTheConnection(t *testing.T) {
	for name := range strings.SplitSeq("SELECT AUTH HELLO RESET QUIT MONITOR SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE "+
		"PUNSUBSCRIBE SUNSUBSCRIBE CLIENT MULTI EXEC DISCARD WATCH UNWATCH SYNC PSYNC REPLCONF SHUTDOWN KS.LOCK KS. ks.x", " ") {
		mixed := strings.ToLower(name[:1]) + name[1:]
		for _, spelling := range []string{name, strings.ToLower(name), mixed} {
			if guardable([]byte(spelling)) {
				t.Errorf("%s is run", spelling)
			}
		}
	}
	for name := range strings.SplitSeq("get SET EVAL KS KSX BLPOP PING  UN SUBSCRIBES xclient \u212as.lock re\u017fet punsubscribed", " ") {
		if !guardable([]byte(name)) {
			t.Errorf("%q is not run", name)
		}
	}
	if reply := newFixture(t).run(t.Context(), nil, "KS.GUARD n t QUIT"); !strings.HasPrefix(reply, "-ERR KS.GUARD can't run 'QUIT'") {
		t.Errorf("got %q", reply)
	}
}

func TestGuardLeavesWhatTheCallerWatchesAlone(t *testing.T) {
	f := newFixture(t)
	s := f.session(2)
	s.watching = true
	if got := f.run(t.Context(), s, "KS.GUARD n t PING"); got != "-ERR KS.GUARD is not allowed while keys are watched\r\n" {
		t.Errorf("got %q", got)
	}
}
