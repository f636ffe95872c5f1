package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// trip is one Exchange: the commands that are expected, and Redis's replies; none: the session is lost.
type trip struct {
	asked   string
	replies []string
}

// exchangingSession plays trips, one after the other.
type exchangingSession struct {
	scriptedSession
	t        *testing.T
	trips    []trip
	watching bool
}

func (s *exchangingSession) Watching() bool { return s.watching }

func (s *exchangingSession) Exchange(_ context.Context, commands ...[]any) ([][]byte, error) {
	s.t.Helper()
	var asked []string
	for _, c := range commands {
		asked = append(asked, strings.TrimRight(fmt.Sprintf("%s", c), "]")[1:])
	}
	if len(s.trips) == 0 {
		s.t.Fatalf("%q: nothing was expected any more", asked)
	}
	next := s.trips[0]
	s.trips = s.trips[1:]
	if got := strings.Join(asked, "; "); got != next.asked {
		s.t.Fatalf("Redis is asked %q; want %q", got, next.asked)
	}
	if next.replies == nil {
		return nil, errSessionLost
	}
	var replies [][]byte
	for _, r := range next.replies {
		replies = append(replies, []byte(r))
	}
	return replies, nil
}

var errSessionLost = errors.New("connection to redis lost")

func TestGuardRunsTheCommandOnlyWhileTheTokenHolds(t *testing.T) {
	const (
		begin  = "WATCH likes/lock:k; GET likes/lock:k; MULTI"
		ok     = "+OK\r\n"
		held   = "$1\r\nt\r\n"
		queued = "+QUEUED\r\n"
		noperm = "-NOPERM no\r\n"
		lost   = "the token does not hold the lock on 'likes:k', so nothing was run: get the lock again, and read again what the command was based on"
	)
	begun := trip{begin, []string{ok, held, ok}}
	exec := func(queued, exec string) trip { return trip{"SET x 1; EXEC", []string{queued, exec}} }
	for name, c := range map[string]struct {
		token string
		trips []trip
		want  string // the reply, or the error in parentheses
	}{
		"held":                    {"t", []trip{begun, exec(queued, "*1\r\n+OK\r\n")}, "+OK\r\n"},
		"a reply of many":         {"t", []trip{begun, exec(queued, "*1\r\n*2\r\n$-1\r\n*-1\r\n")}, "*2\r\n$-1\r\n*-1\r\n"},
		"a reply that is nil":     {"t", []trip{begun, exec(queued, "*1\r\n*-1\r\n")}, "*-1\r\n"},
		"a push within":           {"t", []trip{begun, exec(queued, "*1\r\n>1\r\n+x\r\n:1\r\n")}, ">1\r\n+x\r\n:1\r\n"},
		"an error when it runs":   {"t", []trip{begun, exec(queued, "*1\r\n-WRONGTYPE x\r\n")}, "-WRONGTYPE x\r\n"},
		"an error when it queues": {"t", []trip{begun, exec("-ERR unknown command\r\n", "-EXECABORT Transaction discarded because of previous errors.\r\n")}, "-ERR unknown command\r\n"},
		"EXEC refused":            {"t", []trip{begun, exec(queued, "-EXECABORT Transaction discarded because of: NOPERM no 'exec'\r\n")}, "-NOPERM no 'exec'\r\n"},
		"EXEC unknown":            {"t", []trip{begun, exec(queued, "-ERR unknown command 'EXEC'\r\n")}, "(ERR unknown command 'EXEC')"},
		"EXEC answers anything":   {"t", []trip{begun, exec(queued, "*2\r\n:1\r\n:1\r\n")}, `(guard: EXEC of one command replied "*2\r\n:1\r\n:1\r\n")`},

		"nobody holds, RESP2":      {"t", []trip{{begin, []string{ok, "$-1\r\n", ok}}, {"EXEC", []string{"*0\r\n"}}}, "(" + lost + ")"},
		"nobody holds, RESP3":      {"t", []trip{{begin, []string{ok, "_\r\n", ok}}, {"EXEC", []string{"*0\r\n"}}}, "(" + lost + ")"},
		"another holds":            {"t", []trip{{begin, []string{ok, "$2\r\ntt\r\n", ok}}, {"EXEC", []string{"_\r\n"}}}, "(" + lost + ")"},
		"an empty token":           {"", []trip{{begin, []string{ok, "$0\r\n\r\n", ok}}, {"EXEC", []string{"*0\r\n"}}}, "(" + lost + ")"},
		"a token of any bytes":     {"t\r\n", []trip{{begin, []string{ok, "$3\r\nt\r\n\r\n", ok}}, exec(queued, "*1\r\n:1\r\n")}, ":1\r\n"},
		"touched, and still held":  {"t", []trip{begun, exec(queued, "*-1\r\n"), begun, exec(queued, "_\r\n"), begun, exec(queued, "*1\r\n:1\r\n")}, ":1\r\n"},
		"touched, and then gone":   {"t", []trip{begun, exec(queued, "*-1\r\n"), {begin, []string{ok, "$-1\r\n", ok}}, {"EXEC", []string{"*0\r\n"}}}, "(" + lost + ")"},
		"the lock is no string":    {"t", []trip{{begin, []string{ok, "-WRONGTYPE x\r\n", ok}}, {"EXEC", []string{"*0\r\n"}}}, "(WRONGTYPE x)"},
		"GET refused":              {"t", []trip{{begin, []string{ok, noperm, ok}}, {"EXEC", []string{"*0\r\n"}}}, "(NOPERM no)"},
		"WATCH refused":            {"t", []trip{{begin, []string{noperm, held, ok}}, {"EXEC", []string{"*0\r\n"}}}, "(NOPERM no)"},
		"MULTI refused":            {"t", []trip{{begin, []string{ok, held, noperm}}, {"UNWATCH", []string{ok}}}, "(NOPERM no)"},
		"MULTI and UNWATCH":        {"t", []trip{{begin, []string{ok, held, noperm}}, {"UNWATCH", []string{noperm}}}, "(NOPERM no)"},
		"all refused":              {"t", []trip{{begin, []string{"-NOAUTH x\r\n", "-NOAUTH x\r\n", "-NOAUTH x\r\n"}}}, "(NOAUTH x)"},
		"lost at the beginning":    {"t", []trip{{begin, nil}}, "(guard: connection to redis lost)"},
		"lost with the command":    {"t", []trip{begun, {"SET x 1; EXEC", nil}}, "(guard: connection to redis lost)"},
		"lost while it is undone":  {"t", []trip{{begin, []string{ok, "$-1\r\n", ok}}, {"EXEC", nil}}, "(guard: connection to redis lost)"},
		"lost behind a lost MULTI": {"t", []trip{{begin, []string{ok, held, noperm}}, {"UNWATCH", nil}}, "(guard: connection to redis lost)"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &exchangingSession{t: t, trips: c.trips}
			reply, err := offline(t).Guard(t.Context(), s, "likes:k", c.token, [][]byte{[]byte("SET"), []byte("x"), []byte("1")})
			got := string(reply)
			if err != nil {
				got += "(" + err.Error() + ")"
			}
			if got != c.want {
				t.Errorf("got %q; want %q", got, c.want)
			}
			if len(s.trips) > 0 {
				t.Errorf("Redis was not asked %v", s.trips)
			}
		})
	}
}

func TestGuardGivesUpOnALockThatIsWrittenToAllTheTime(t *testing.T) {
	s := &exchangingSession{t: t}
	for range mostAborts {
		s.trips = append(s.trips, trip{"WATCH k/lock; GET k/lock; MULTI", []string{"+OK\r\n", "$1\r\nt\r\n", "+OK\r\n"}},
			trip{"PING; EXEC", []string{"+QUEUED\r\n", "*-1\r\n"}})
	}
	reply, err := offline(t).Guard(t.Context(), s, "k", "t", [][]byte{[]byte("PING")})
	var aborted *AbortedError
	if reply != nil || !errors.As(err, &aborted) || aborted.Times != mostAborts || len(s.trips) > 0 {
		t.Errorf("got %q, %v, with %d round trips left", reply, err, len(s.trips))
	}
}

func TestGuardAsksNothingOfRedisWhereItCannotServe(t *testing.T) {
	ping := [][]byte{[]byte("PING")}
	if _, err := offline(t).Guard(t.Context(), &exchangingSession{t: t, watching: true}, "k", "t", ping); !errors.Is(err, ErrWatching) {
		t.Errorf("with keys watched: %v", err)
	}
	if _, err := offline(t).Guard(t.Context(), &exchangingSession{t: t}, "k/lock", "t", ping); !errors.Is(err, ErrInvalidName) {
		t.Errorf("of no name: %v", err)
	}
}
