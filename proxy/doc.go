// Package proxy puts sessions between clients and Redis.
//
// A session relays what its client sends to a lane (package passthrough) and
// what the lane replies to the client, byte for byte. A command that the Handler
// knows is a barrier: the replies in flight come first, then the command, then
// what was sent behind it. Within the barrier a command is plain blocking code
// with a context that ends when the client hangs up, Redis is lost or the proxy
// shuts down. When in doubt a session steps aside and becomes a pipe.
package proxy
