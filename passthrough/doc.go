// Package passthrough carries bytes between a client and Redis without
// changing one of them.
//
// A Scanner finds where the client's requests begin and end, and which of them
// have an effect on the connection beyond one plain reply; it copies nothing
// and holds back only what it needs to tell. A Lane is one connection to Redis:
// requests go in, replies come out in the same order, each to the Sink that its
// request named, while what Redis says unasked (push messages, pub/sub in RESP2,
// MONITOR lines) goes to the lane's owner. What a lane knows of its connection
// (selected database, protocol, MULTI, subscriptions, reply mode) it has learned
// from replies, never from requests. Bytes that nobody understands make a lane
// opaque: from there on it is a pipe, and Redis answers whatever it is.
//
// The rules follow networking.c, pubsub.c, multi.c and server.c of Redis 7.0.
package passthrough
