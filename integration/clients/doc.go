// Package clients runs real client libraries against the built proxy in front
// of a real redis-server: what people use must not notice the proxy.
//
// Each library goes through the same list of cases, in its own idiom: first
// directly against Redis, which proves the case itself, then through the proxy,
// where the KS.* commands come on top. Each library on each path has servers of
// its own, so cases may kill connections and restart Redis. A case that is
// missing is a failure. `go test -v ./integration/clients` ends with the table.
//
// The libraries of Node and Python run as scripts (node/, python/) that print a
// line for each case; npm installs what package-lock.json names on first use.
// What is not installed on the machine is skipped, except in CI (CI=true).
package clients
