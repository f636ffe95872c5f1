package proxy

import (
	"slices"
	"strings"
	"testing"
)

func TestHandlerIsToldWhatHasComeOfACommandThatIsLongerThanWhatIsReadAhead(t *testing.T) {
	r := start(t)
	client, _ := r.pair()
	client.send("KS.WAIT\r\n")
	r.began()
	client.send("*4\r\n$6\r\nKS.NOW\r\n$1\r\na\r\n$1\r\nb\r\n$100000\r\n")
	for got := ""; got != "KS.NOW a b "; { // what has come of it before may be told, too
		got = wait(t, r.handler.begun, "a command behind")
		if !strings.HasPrefix("KS.NOW a b ", strings.TrimRight(got, " ")) {
			t.Fatalf("told of %q", got)
		}
	}
	client.send(strings.Repeat("x", 100_000) + "\r\n")
	client.finish()
	wait(t, r.handler.released, "the command to end")
	wait(t, r.handler.forgot, "the handler to be told that it is over")
	if len(r.handler.begun)+len(r.handler.ahead) > 0 {
		t.Errorf("told of %d begun and %d whole commands as well", len(r.handler.begun), len(r.handler.ahead))
	}
	client.close()
	r.stop()
}

func TestHandlerIsToldWhatIsSentBehindAWaitingCommand(t *testing.T) {
	for name, c := range map[string]struct {
		behind string
		want   []string
	}{
		"inline":               {"KS.NOW 1\r\nKS.NOW 2\r\n", []string{"KS.NOW 1", "KS.NOW 2"}},
		"in RESP":              {resp("ks.now", "1") + resp("KS.NOW", ""), []string{"ks.now 1", "KS.NOW "}},
		"behind others":        {ping + resp("SET", "k", "KS.NOW 0\r\n") + "BLPOP l 0\r\n\r\n" + resp("KS.NOW", "1"), []string{"KS.NOW 1"}},
		"not behind MULTI":     {resp("KS.NOW", "1") + "MULTI\r\n" + resp("KS.NOW", "2"), []string{"KS.NOW 1"}},
		"not behind SELECT":    {resp("KS.NOW", "1") + "SELECT 2\r\n" + resp("KS.NOW", "2"), []string{"KS.NOW 1"}},
		"not behind odd input": {resp("KS.NOW", "1") + "*1\r\n:1\r\n" + resp("KS.NOW", "2"), []string{"KS.NOW 1"}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			for _, size := range []int{1, 7, 1 << 20} {
				r := start(t)
				client, _ := r.pair()
				client.send("KS.WAIT\r\n")
				r.began()
				for piece := range slices.Chunk([]byte(c.behind), size) {
					client.send(string(piece))
				}
				for _, want := range c.want {
					if got := wait(t, r.handler.ahead, "a command behind"); got != want {
						t.Errorf("told of %q; want %q", got, want)
					}
				}
				client.finish()
				wait(t, r.handler.released, "the command to end")
				wait(t, r.handler.forgot, "the handler to be told that it is over")
				if n := len(r.handler.ahead); n > 0 {
					t.Errorf("told of %q as well", <-r.handler.ahead)
				}
				client.close()
				r.stop()
			}
		})
	}
}
