package proxy

import (
	"github.com/keysmith-proxy/keysmith-proxy/passthrough"
)

const (
	// firstTrain and longestTrain are how many commands are looked up together at first, and at most.
	firstTrain   = 8
	longestTrain = 128

	// smallTrain and largeTrain are sizes of replies, in bytes: below the one the next train may be longer, above the
	// other it is shorter, as all replies of a train are in memory at once.
	smallTrain = 256 << 10
	largeTrain = 1 << 20
)

// A train is commands of ours that a client has sent in one go, each of which is answered by one read of Redis if
// that finds something. They are read together, and answered together as far as something was found: a
// barrier and a round trip for each would make pipelining worth nothing.
type train struct {
	reads []byte // a GET for each
	ends  []int  // of the commands behind the first, in what the reader holds
}

// coupled returns the train that begins with the command args; of one alone it is nil. It must be called before
// anything else reads ahead.
func (s *session) coupled(args [][]byte) *train {
	if s.reader.Held() == 0 {
		return nil
	}
	if s.couple == 1 {
		s.couple = 2 // for the next
		return nil
	}
	h := s.srv.cfg.Handler
	key, ok := h.Read(args)
	if !ok {
		return nil
	}
	held, at := s.reader.Peek(), 0
	t := &train{
		reads: make([]byte, 0, len(s.command)+min(len(held), 4<<10)),
		ends:  make([]int, 0, min(s.couple, 16)),
	}
	t.reads = passthrough.AppendGet(t.reads, key)
	scan := passthrough.Scanner{Intercept: s.srv.intercepts}
	var b passthrough.Batch
	var next [][]byte
	for len(t.ends)+1 < s.couple {
		b.Clear()
		n, m, verdict := scan.Scan(held[at:], &b)
		if verdict != passthrough.Intercepted || n != 0 {
			break
		}
		k, done, verdict := scan.Rest(held[at+m:])
		if !done || verdict == passthrough.Odd {
			break
		}
		end := at + m + k
		next = passthrough.ParseRequestInto(next, held[at:end])
		key, ok := h.Read(next)
		if !ok || !s.vetted && oversize(next) { // which is for vet
			break
		}
		t.reads, t.ends, at = passthrough.AppendGet(t.reads, key), append(t.ends, end), end
	}
	if len(t.ends) == 0 {
		return nil
	}
	return t
}

// hits answers as many commands of t as find something, from the first on, and reports whether that was any. The
// others are left to be run one by one.
func (s *session) hits(t *train) bool {
	replies, err := s.exchange(t.reads, len(t.ends)+1)
	if err != nil {
		return true // the session has ended
	}
	size, found := 0, 0
	for _, reply := range replies {
		size += len(reply)
	}
	out := make([]byte, 0, size+len(replies)*32)
	for _, reply := range replies {
		answer, hit := s.srv.cfg.Handler.AppendFound(out, reply)
		if !hit {
			break
		}
		out = answer
		found++
	}
	switch {
	case found < len(replies):
		s.couple = max(found, 1)
	case size > largeTrain:
		s.couple = max(len(replies)/2, 1)
	case size < smallTrain:
		s.couple = min(2*s.couple, longestTrain)
	}
	if found == 0 {
		return false
	}
	if found > 1 {
		s.served = t.ends[found-2]
		s.attended.Add(int64(found - 1))
	}
	if !s.orphaned() {
		s.write(out)
	}
	return true
}
