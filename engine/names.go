package engine

import "strings"

// maxName bounds a name, in bytes: every script and every bell carries it.
const maxName = 64 << 10

// keys are where everything about one name lives in Redis.
type keys struct {
	value, lock, queue, waiting, fence, failure, stale string // keys
	notif, locknotif, locklost                         string // channels
}

// keysOf returns the keys of name, which ErrInvalidName refuses if it is empty, too long or itself such
// a key. A name is tag:rest, split at its first or last ':'; without one it is all tag.
func keysOf(name, split string) (keys, error) {
	if !validName(name, split) {
		return keys{}, ErrInvalidName
	}
	tag, rest := splitName(name, split)
	// All in one piece of memory: a call needs most of them.
	var b strings.Builder
	b.Grow(len(endings)*len(name) + endingsSize)
	for _, ending := range endings {
		b.WriteString(tag)
		b.WriteString(ending)
		b.WriteString(rest)
	}
	all := b.String()
	k := keys{value: name}
	for i, key := range [...]*string{&k.lock, &k.queue, &k.waiting, &k.fence, &k.failure, &k.stale, &k.notif, &k.locknotif, &k.locklost} {
		n := len(name) + len(endings[i])
		*key, all = all[:n], all[n:]
	}
	return k, nil
}

// endings of the tag make the keys and channels, in the order of the fields of keys.
var endings = [...]string{
	"/lock", "/lockwaiting", "/lockwaitingset", "/fence", "/error", "/stale", "/notif", "/locknotif", "/locklost",
}

// keyEndings is how many of them, the first, are of keys. They make a name one of the engine's own keys: its value would be
// somebody's token.
const keyEndings = 6

var endingsSize = len(strings.Join(endings[:], ""))

// validName reports whether keysOf accepts name.
func validName(name, split string) bool {
	if name == "" || len(name) > maxName || name == agreementKey {
		return false
	}
	tag, _ := splitName(name, split)
	for _, ending := range endings[:keyEndings] {
		if strings.HasSuffix(tag, ending) {
			return false
		}
	}
	return true
}

// splitName returns what stands before the first ':', or the last one, and the rest with it.
func splitName(name, split string) (tag, rest string) {
	i := strings.IndexByte(name, ':')
	if split == "last" {
		i = strings.LastIndexByte(name, ':')
	}
	if i < 0 {
		return name, ""
	}
	return name[:i], name[i:]
}

// ofLine are the keys that every script on a line declares, in their order; ofMemo those of a script
// that also reads or writes the value, the error or the stale copy.
func (k keys) ofLine() []string { return []string{k.lock, k.queue, k.waiting, k.fence} }
func (k keys) ofMemo() []string { return append(k.ofLine(), k.value, k.failure, k.stale) }
