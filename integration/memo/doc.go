// Package memo checks how memo locks end when something fails: generators that die, lapse, reject,
// resolve late or twice; waiters that hang up; notifications that are lost; proxies and Redis killed; keys
// that strangers set, delete or replace by others of a wrong type. Whatever happens, everybody who waits is
// answered, and one generates at a time.
//
// Each test logs what it broke, who was answered what and how fast, in one line. All of them as a table:
//
//	go test -v ./integration/memo | grep -o 'memo | .*' | sort
package memo
