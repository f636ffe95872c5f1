package passthrough

// owed is the line of replies that a lane still expects, in order. It grows
// with changes between sinks and effects, not with requests: a million
// pipelined GETs are one entry.
type owed struct {
	queue []entry
	first int // queue[:first] is done
}

// entry is a run of requests of one sink.
type entry struct {
	run
	sink Sink
	acks int64 // subscriptions: acknowledgements still to come, once one came
}

func (o *owed) push(sink Sink, r run) {
	if k := len(o.queue) - 1; k >= o.first {
		if last := &o.queue[k]; r.effect == Plain && last.effect == Plain && last.sink == sink {
			last.n += r.n
			return
		}
	}
	if o.first == len(o.queue) {
		o.queue, o.first = o.queue[:0], 0
	}
	o.queue = append(o.queue, entry{run: r, sink: sink})
}

// head is the entry that the next reply answers, nil if none is expected.
func (o *owed) head() *entry {
	if o.first == len(o.queue) {
		return nil
	}
	return &o.queue[o.first]
}

// take removes n requests of the head.
func (o *owed) take(n int64) {
	h := &o.queue[o.first]
	if h.n -= n; h.n > 0 {
		return
	}
	*h = entry{}
	o.first++
	o.compact()
}

// compact gives memory back after a long line.
func (o *owed) compact() {
	switch {
	case o.first == len(o.queue) && cap(o.queue) > 64:
		o.queue, o.first = nil, 0
	case o.first == len(o.queue):
		o.queue, o.first = o.queue[:0], 0
	case o.first >= 1024 && o.first*2 >= len(o.queue):
		o.queue = append(o.queue[:0], o.queue[o.first:]...)
		o.first = 0
	}
}
