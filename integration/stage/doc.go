// Package stage is what tests of locks and memo locks play on: one real Redis, some
// proxies before it, links between them that can be broken, and clients that stand in line.
//
// What Redis holds is looked at directly, past all proxies (Try, Must, Line, Owner): that is how
// a test knows that somebody stands in line. A stranger's PSUBSCRIBE * is connected to every Redis,
// because it makes PUBLISH's own count of receivers lie.
package stage
