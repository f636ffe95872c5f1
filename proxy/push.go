package proxy

import (
	"strconv"
	"sync"
)

// mostPushes is how many pushes may wait for a client to read them.
const mostPushes = 64

// pushes are the goroutines that write pushes to a client.
type pushes struct {
	mu    sync.Mutex
	over  bool
	n     int
	group sync.WaitGroup
}

// begin reports whether one more may be written; then done must follow.
func (p *pushes) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over || p.n == mostPushes {
		return false
	}
	p.n++
	p.group.Add(1)
	return true
}

func (p *pushes) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n--
	p.group.Done()
}

// end lets no more begin and waits for those that have; the client's connection
// must be closed, so that they don't wait for it.
func (p *pushes) end() {
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	p.group.Wait()
}

// Push sends the client a push, between two replies. It does not wait for the
// client: a goroutine does.
func (s *session) Push(elements ...string) bool {
	lane := s.shared.Load()
	if lane == nil || !lane.PushesRESP3() || !s.pushes.begin() {
		return false
	}
	frame := appendPush(nil, elements)
	go func() {
		defer s.pushes.done()
		s.frame.Lock()
		defer s.frame.Unlock()
		if lane.PushesRESP3() { // now nothing can be delivered that changes it
			s.conn.Write(frame) // an error shows up where the client is read
		}
	}()
	return true
}

func appendPush(dst []byte, elements []string) []byte {
	dst = append(strconv.AppendInt(append(dst, '>'), int64(len(elements)), 10), "\r\n"...)
	for _, e := range elements {
		dst = append(strconv.AppendInt(append(dst, '$'), int64(len(e)), 10), "\r\n"...)
		dst = append(append(dst, e...), "\r\n"...)
	}
	return dst
}
