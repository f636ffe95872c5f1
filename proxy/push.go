package proxy

import (
	"strconv"
	"sync"

	"github.com/keysmith-proxy/keysmith-proxy/passthrough"
)

// mostPushes is how many pushes may wait for a client to read them.
const mostPushes = 64

// pushes are those that wait for the client, in order. A goroutine writes them
// while there are any: who pushes must not wait for a client that does not read.
type pushes struct {
	mu      sync.Mutex
	over    bool
	queue   [][]byte // the first one may be in the write
	writing bool     // the goroutine is there
	written sync.WaitGroup
}

// Push hands the client a push, which is written between two replies. False means
// that it is not; true, that it is unless the client stops to speak RESP3, or
// goes, before its turn comes.
func (s *session) Push(elements ...string) bool {
	lane := s.shared.Load()
	if lane == nil || !lane.PushesRESP3() {
		return false
	}
	select {
	case <-lane.Done():
		return false
	default:
	}
	p := &s.pushes
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over || len(p.queue) == mostPushes {
		return false
	}
	p.queue = append(p.queue, appendPush(nil, elements))
	if !p.writing {
		p.writing = true
		p.written.Add(1)
		go s.writePushes(lane)
	}
	return true
}

// writePushes writes what waits.
func (s *session) writePushes(lane *passthrough.Lane) {
	defer s.pushes.written.Done()
	for frame := s.pushes.first(); frame != nil; frame = s.pushes.next() {
		s.writePush(lane, frame)
	}
}

// writePush writes frame if the client can take it still: while frame is held
// nothing is delivered that changes it.
func (s *session) writePush(lane *passthrough.Lane, frame []byte) {
	s.frame.Lock()
	defer s.frame.Unlock()
	if lane.PushesRESP3() {
		s.conn.Write(frame) // an error shows up where the client is read
	}
}

// first returns the first push that waits. If there is none it returns nil, and
// the goroutine must end.
func (p *pushes) first() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over || len(p.queue) == 0 {
		p.queue, p.writing = nil, false
		return nil
	}
	return p.queue[0]
}

// next is first after the first one was written.
func (p *pushes) next() []byte {
	p.mu.Lock()
	p.queue = p.queue[1:]
	p.mu.Unlock()
	return p.first()
}

// end lets no more wait and no more be written; the client's connection must be
// closed, so that a write under way ends.
func (p *pushes) end() {
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	p.written.Wait()
}

func appendPush(dst []byte, elements []string) []byte {
	dst = append(strconv.AppendInt(append(dst, '>'), int64(len(elements)), 10), "\r\n"...)
	for _, e := range elements {
		dst = append(strconv.AppendInt(append(dst, '$'), int64(len(e)), 10), "\r\n"...)
		dst = append(append(dst, e...), "\r\n"...)
	}
	return dst
}
