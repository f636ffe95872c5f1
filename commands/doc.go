// Package commands is the KS.* dialect: a table of commands, each with its name, arity, summary and run
// function. A command checks its arity, parses its arguments into an options struct, asks the engine, and
// appends its reply. Error texts read as Redis's own would, because clients and people know those. Replies
// are integers, bulk strings, nil and flat arrays of these, so that they are the same in RESP2 and RESP3
// but for nil itself. The package knows no sockets and no Lua; redcon is used to encode replies only.
package commands
