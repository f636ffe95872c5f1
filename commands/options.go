package commands

import "strconv"

// problem is an error reply for arguments that can't be served.
type problem string

const (
	noProblem      problem = ""
	syntaxError    problem = "ERR syntax error"
	notAnInteger   problem = "ERR value is not an integer or out of range"
	timeoutNumber  problem = "ERR timeout is not an integer or out of range"
	timeoutTooLess problem = "ERR timeout is negative"
	invalidToken   problem = "ERR invalid token: it must have 1 to 128 bytes"
)

func invalidExpire(command string) problem {
	return problem("ERR invalid expire time in '" + command + "' command")
}

// longestTime bounds PX and WAIT, in ms: numbers in Redis's Lua are exact below it.
const longestTime = 1 << 53

// longestToken bounds TOKEN, in bytes.
const longestToken = 128

// accepted are the options a command takes beside PX and EX: wait stands for WAIT and NOWAIT, hold for
// SESSION and TOKEN, stale for STALE, which comes with PX or EX only.
type accepted struct{ wait, hold, stale bool }

// options are what may follow the fixed arguments, in any order, each once.
type options struct {
	expire  int64 // PX or EX, in ms; 0: not given
	session bool
	wait    int64 // WAIT, in ms; valid if waitGiven
	nowait  bool
	token   []byte // nil: not given
	stale   int64  // STALE, in ms; 0: not given

	waitGiven bool
}

// parseOptions reads args for command. As in Redis, syntax comes before numbers.
func parseOptions(command string, args [][]byte, may accepted) (options, problem) {
	var o options
	var expire, wait, stale []byte
	var unit int64
	for i := 0; i < len(args); i++ {
		value := func() []byte { // of the option at i, which it skips; nil if there is none
			if i+1 >= len(args) {
				return nil
			}
			i++
			return args[i]
		}
		switch {
		case is(args[i], "PX") && expire == nil && !o.session:
			expire, unit = value(), 1
			if expire == nil {
				return o, syntaxError
			}
		case is(args[i], "EX") && expire == nil && !o.session:
			expire, unit = value(), 1000
			if expire == nil {
				return o, syntaxError
			}
		case may.wait && is(args[i], "WAIT") && !o.waitGiven && !o.nowait:
			wait, o.waitGiven = value(), true
			if wait == nil {
				return o, syntaxError
			}
		case may.wait && is(args[i], "NOWAIT") && !o.waitGiven && !o.nowait:
			o.nowait = true
		case may.stale && is(args[i], "STALE") && stale == nil:
			if stale = value(); stale == nil {
				return o, syntaxError
			}
		case may.hold && is(args[i], "SESSION") && expire == nil && !o.session:
			o.session = true
		case may.hold && is(args[i], "TOKEN") && o.token == nil:
			o.token = value()
			if o.token == nil {
				return o, syntaxError
			}
		default:
			return o, syntaxError
		}
	}
	if stale != nil && expire == nil {
		return o, syntaxError
	}
	if o.token != nil && (len(o.token) == 0 || len(o.token) > longestToken) {
		return o, invalidToken
	}
	var p problem
	if o.expire, p = parseExpire(command, expire, unit); p != noProblem {
		return o, p
	}
	if o.stale, p = parseExpire(command, stale, 1); p != noProblem {
		return o, p
	}
	return o, o.setWait(wait)
}

// is compares in ASCII: Unicode folding would take a Kelvin sign for a k.
func is(arg []byte, option string) bool {
	if len(arg) != len(option) {
		return false
	}
	for i, b := range arg {
		if 'a' <= b && b <= 'z' {
			b -= 'a' - 'A'
		}
		if b != option[i] {
			return false
		}
	}
	return true
}

// parseExpire reads a time in units of so many ms; nil is 0.
func parseExpire(command string, arg []byte, unit int64) (int64, problem) {
	if arg == nil {
		return 0, noProblem
	}
	n, ok := parseInteger(arg)
	if !ok {
		return 0, notAnInteger
	}
	if n <= 0 || n > longestTime/unit {
		return 0, invalidExpire(command)
	}
	return n * unit, noProblem
}

func (o *options) setWait(arg []byte) (p problem) {
	if arg != nil {
		o.wait, p = parseTimeout(arg)
	}
	return p
}

// parseTimeout reads how long to wait, in ms; 0: no bound.
func parseTimeout(arg []byte) (int64, problem) {
	n, ok := parseInteger(arg)
	if !ok || n > longestTime {
		return 0, timeoutNumber
	}
	if n < 0 {
		return 0, timeoutTooLess
	}
	return n, noProblem
}

// parseInteger takes what Redis's string2ll takes: an optional '-', no '+', no leading zeros, no spaces.
func parseInteger(arg []byte) (int64, bool) {
	if len(arg) == 0 || len(arg) > 20 {
		return 0, false
	}
	n, err := strconv.ParseInt(string(arg), 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != string(arg) {
		return 0, false
	}
	return n, true
}
