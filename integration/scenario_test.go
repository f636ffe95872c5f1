package integration

import (
	"fmt"
	"slices"
	"strings"
)

// A scenario is what one or several clients do, step by step. Each step is
// complete, its replies received, before the next begins, so that what Redis
// answers does not depend on timing.
type scenario struct {
	name  string
	steps []step

	// admin runs on the redis-server itself before the first step, restore
	// after the last; each string is a command line split at spaces, where
	// single quotes keep an argument together.
	admin, restore []string

	// pipes says why the session may stop answering KS.* in this scenario
	// (it has become a plain pipe, for replies can no longer be counted).
	pipes string

	// uncut keeps the input in one piece, see heldBack.
	uncut bool

	// withoutKS says that the scenario means something else with KS commands in it.
	withoutKS bool

	// drops says that Redis closes without sending replies that it already has,
	// so that one which the proxy gives itself before would be too many.
	drops bool

	// closesInFlight says that Redis closes while input is still on its way,
	// so that FIN or RST is a matter of timing.
	closesInFlight bool
}

// contains reports whether a client sends word, in any case.
func (sc scenario) contains(word string) bool {
	return slices.ContainsFunc(sc.steps, func(st step) bool {
		return strings.Contains(strings.ToUpper(st.data), word)
	})
}

// step is one thing that happens on one connection.
type step struct {
	op   op
	conn string // a connection is opened at its first step
	data string // {id:b} stands for the CLIENT ID of connection b
	cuts []int  // where data is cut into writes of their own
	// until is part of the reply that a command which takes its time, or one
	// behind it, will have given; empty: nothing in data takes time.
	until string
}

type op int

const (
	opSend op = iota
	// opLast sends and half-closes right behind it.
	opLast
	// opFire sends and waits for nothing: Redis will be busy.
	opFire
	// opReply sends, then waits for a reply without looking inside Redis,
	// which is busy with a script.
	opReply
	opHalfClose
	opReset
	// opEnd waits until Redis ends the connection by itself.
	opEnd
	// opAdmin runs data as a command line on the redis-server itself.
	opAdmin
	// opBusy waits until Redis answers everybody -BUSY.
	opBusy
	// opIdle waits until it does so no longer.
	opIdle
)

func (o op) String() string {
	return [...]string{"send", "last", "fire", "reply", "halfClose", "reset", "end", "admin", "busy", "idle"}[o]
}

func send(conn string, data ...string) step {
	return step{op: opSend, conn: conn, data: strings.Join(data, "")}
}

func sendLast(conn, data string) step { return step{op: opLast, conn: conn, data: data} }
func fire(conn, data string) step     { return step{op: opFire, conn: conn, data: data} }
func sendBusy(conn, data string) step { return step{op: opReply, conn: conn, data: data} }
func halfClose(conn string) step      { return step{op: opHalfClose, conn: conn} }
func reset(conn string) step          { return step{op: opReset, conn: conn} }
func admin(commandLine string) step   { return step{op: opAdmin, data: commandLine} }
func untilBusy() step                 { return step{op: opBusy} }
func untilIdle() step                 { return step{op: opIdle} }

// pieces cuts the data of a step into what is written at once.
func (s step) pieces() []string {
	var pieces []string
	at := 0
	for _, cut := range s.cuts {
		if cut > at && cut < len(s.data) {
			pieces = append(pieces, s.data[at:cut])
			at = cut
		}
	}
	return append(pieces, s.data[at:])
}

// String shows the steps as they would be written in a table.
func (sc scenario) String() string {
	var b strings.Builder
	for _, line := range sc.admin {
		fmt.Fprintf(&b, "  admin %q\n", line)
	}
	for i, s := range sc.steps {
		fmt.Fprintf(&b, "%3d %s %s %s", i, s.op, s.conn, abridged(s.data))
		if len(s.cuts) > 0 {
			fmt.Fprintf(&b, " cut at %v", s.cuts)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// abridged quotes data, without the middle of what is very long.
func abridged(data string) string {
	const most = 1500
	if len(data) <= most {
		return fmt.Sprintf("%q", data)
	}
	return fmt.Sprintf("%q…(%d bytes)…%q", data[:most/2], len(data)-most, data[len(data)-most/2:])
}
