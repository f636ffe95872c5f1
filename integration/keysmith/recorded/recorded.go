// Package recorded is what KeySmith for .NET does to a lock in Redis, as data: the commands that its scripts send, in each
// state and in their order, and scripts that send the same. Tests that play such a process take its part from here; that
// the scripts do what was recorded is tested in the package above.
//
// Around the scripts a process does this for every call: it subscribes to the lock's channel, runs Take, and waits for its
// own id on the channel. Every expiration it runs Situation: a waiter that has the lock goes on, one that is nowhere
// runs Take again, and a holder that is nowhere has lost the lock; so has one that hears another id. In the end, however
// it came, it runs Release, and unsubscribes.
package recorded

import (
	_ "embed"
	"time"
)

// The scripts, each explained in its file. They declare no keys; Keys.Args are their arguments.
var (
	//go:embed take.lua
	Take string
	//go:embed release.lua
	Release string
	//go:embed situation.lua
	Situation string
)

// Trace is what the original scripts did, in a format that its head explains.
//
//go:embed trace.txt
var Trace string

// The answers of Situation.
const (
	Waits   = 0
	Has     = 1
	Nowhere = 2
)

// Keys are the names that KeySmith gives to what belongs to a lock.
type Keys struct {
	Lock    string // string: the owner's id
	Queue   string // list of waiting ids
	Set     string // hash of waiting ids, each with the value 0
	Channel string // where the id of each new owner is published
}

// KeysOf are the names of the lock that KeySmith calls name in root, and a proxy root:name.
func KeysOf(root, name string) Keys {
	return Keys{
		Lock:    root + "/lock:" + name,
		Queue:   root + "/lockwaiting:" + name,
		Set:     root + "/lockwaitingset:" + name,
		Channel: root + "/locknotif:" + name,
	}
}

// Args are the arguments of a script for a call with that id, to be given to EVAL behind the number of keys, which is 0.
// The expiration is in whole milliseconds.
func (k Keys) Args(id string, expiration time.Duration) []any {
	return []any{id, expiration.Milliseconds(), k.Lock, k.Queue, k.Set, k.Channel}
}
