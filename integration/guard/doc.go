// Package guard holds KS.GUARD of the built proxy against a real Redis: each of many commands answers byte for
// byte what it answers without it, in RESP2 and RESP3, and leaves the same data behind; and none runs for
// a token that does not hold the lock, whatever happens between the proxy's look at it and the command.
package guard
