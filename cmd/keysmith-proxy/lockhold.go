package main

import (
	"errors"
	"fmt"
	"time"
)

// maxUnanswered is how many PINGs may be under way. With one each 5 s a proxy or a
// Redis that hangs is noticed within 20 s. That is what is left of a lock that is
// renewed every third of the default ks-lock-ttl, 30 s, just before it is.
const maxUnanswered = 3

// errReleased is what release returns if the lock was gone before it.
var errReleased = errors.New("lost the lock before the command ended: another may have held it meanwhile")

// hold is a lock that is held, for as long as its connection lives. Its methods are
// called by one goroutine.
type hold struct {
	grant
	name       string
	conn       *lockConn
	messages   chan message  // what arrives
	closed     chan struct{} // closed by close: nobody reads messages any more
	lost       bool          // it is said already; set by who says it
	unanswered int           // commands under way
}

// message is a reply, or the end of the connection.
type message struct {
	reply reply
	err   error
}

// newHold takes c over and begins to read from it.
func newHold(c *lockConn, name string, g grant) *hold {
	h := &hold{grant: g, name: name, conn: c, messages: make(chan message), closed: make(chan struct{})}
	go h.read()
	return h
}

func (h *hold) read() {
	for {
		r, err := readReply(h.conn.r)
		select {
		case h.messages <- message{r, err}:
		case <-h.closed:
			return
		}
		if err != nil {
			return
		}
	}
}

// receive returns an error if m says that the lock is lost.
func (h *hold) receive(m message) error {
	switch {
	case h.lost:
		return nil
	case m.err != nil:
		return fmt.Errorf("lost the lock: the connection to the proxy broke (%w)", m.err)
	case m.reply.kind != '>':
		h.unanswered--
	case h.tellsOfLoss(m.reply):
		return errors.New("lost the lock: it was deleted, or could not be renewed in time")
	}
	return nil
}

func (h *hold) tellsOfLoss(push reply) bool {
	e := push.elems
	return len(e) == 3 && e[0].text == "ks.lost" && e[1].text == h.name && e[2].text == h.token
}

// ping asks for a sign of life. It returns an error if the last ones were not
// answered. They are counted, not timed: after this process was stopped (Ctrl-Z)
// the time is up although the answers are there.
func (h *hold) ping() error {
	switch {
	case h.lost:
		return nil
	case h.unanswered >= maxUnanswered:
		return errors.New("lost the lock, most likely: the proxy, or its Redis, has not answered for too long")
	}
	h.ask("PING")
	return nil
}

// ask sends a command. If that fails, so does reading, which tells.
func (h *hold) ask(args ...string) {
	h.unanswered++
	_ = h.conn.SetWriteDeadline(time.Now().Add(unlockPatience))
	_ = h.conn.send(args...)
}

// release gives the lock back and waits until that is done, so that who is told by
// the exit of this process finds it free. It returns an error if the lock was lost
// and nobody has said so yet.
func (h *hold) release() error {
	if h.lost {
		return nil
	}
	h.ask("KS.UNLOCK", h.name, h.token)
	late := time.After(unlockPatience)
	for {
		select {
		case m := <-h.messages:
			if err := h.receive(m); err != nil {
				return err
			}
			if h.unanswered > 0 {
				continue
			}
			return released(m.reply)
		case <-late:
			return errors.New("the proxy has not confirmed that the lock is released; closing the connection releases it")
		}
	}
}

// released judges the reply of KS.UNLOCK.
func released(r reply) error {
	switch {
	case r.kind == '-':
		return fmt.Errorf("unlock: %s; closing the connection releases it", r.text)
	case r.text != "1":
		return errReleased
	}
	return nil
}

// close ends the connection, and with it the hold if it still stands. It is called
// once, last.
func (h *hold) close() {
	close(h.closed)
	h.conn.Close()
}
