package engine

import "strings"

// maxName bounds a name, in bytes: every script and every bell carries it.
const maxName = 64 << 10

// reserved are the tag endings that make a name one of the engine's own keys: its value would be
// somebody's token.
var reserved = []string{"/lock", "/lockwaiting", "/lockwaitingset", "/fence", "/error", "/stale"}

// keys are where everything about one name lives in Redis.
type keys struct {
	value, lock, queue, waiting, fence, failure, stale string // keys
	notif, locknotif, locklost                         string // channels
}

// keysOf returns the keys of name, which ErrInvalidName refuses if it is empty, too long or itself such
// a key. A name is tag:rest, split at its first or last ':'; without one it is all tag.
func keysOf(name, split string) (keys, error) {
	if name == "" || len(name) > maxName || name == agreementKey {
		return keys{}, ErrInvalidName
	}
	i := strings.IndexByte(name, ':')
	if split == "last" {
		i = strings.LastIndexByte(name, ':')
	}
	tag, rest := name, ""
	if i >= 0 {
		tag, rest = name[:i], name[i:]
	}
	for _, ending := range reserved {
		if strings.HasSuffix(tag, ending) {
			return keys{}, ErrInvalidName
		}
	}
	return keys{
		value:     name,
		lock:      tag + "/lock" + rest,
		queue:     tag + "/lockwaiting" + rest,
		waiting:   tag + "/lockwaitingset" + rest,
		fence:     tag + "/fence" + rest,
		failure:   tag + "/error" + rest,
		stale:     tag + "/stale" + rest,
		notif:     tag + "/notif" + rest,
		locknotif: tag + "/locknotif" + rest,
		locklost:  tag + "/locklost" + rest,
	}, nil
}

// ofLine are the keys that every script on a line declares, in their order; ofMemo those of a script
// that also reads or writes the value, the error or the stale copy.
func (k keys) ofLine() []string { return []string{k.lock, k.queue, k.waiting, k.fence} }
func (k keys) ofMemo() []string { return append(k.ofLine(), k.value, k.failure, k.stale) }
