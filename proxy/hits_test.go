package proxy

import "testing"

// Commands that one read each may answer are read together. From the first that is not found on they are run one by
// one, and the next ones are coupled anew.
func TestReadsAreCoupled(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send(resp("KS.GET", "a") + "KS.GET b\r\n" + resp("KS.GET", "c") + resp("KS.GET", "d") + "GET e\r\n" + resp("KS.GET", "f"))
	redis.expect(resp("GET", "a") + resp("GET", "b") + resp("GET", "c") + resp("GET", "d"))
	redis.send(bulk("a") + bulk("b"))
	redis.send(bulk("") + bulk("d"))
	client.expect(bulk("a") + bulk("b") + bulk("") + bulk("d"))
	redis.expect("GET e\r\n")
	redis.send(bulk("e"))
	client.expect(bulk("e") + "$-1\r\n") // one alone is run

	client.send(resp("KS.GET", "a") + resp("KS.GET", "b") + resp("KS.GET", "c") + resp("KS.NOW"))
	redis.expect(resp("GET", "a") + resp("GET", "b") + resp("GET", "c"))
	redis.send(bulk("a") + "$-1\r\n" + bulk("c"))
	client.expect(bulk("a") + "$-1\r\n" + "$-1\r\n" + "+done\r\n") // the second is run; the next train begins at one

	client.send(resp("KS.GET", "a") + resp("KS.GET", "b") + resp("KS.GET", "c"))
	redis.expect(resp("GET", "a") + resp("GET", "b"))
	redis.send(bulk("a") + bulk("b"))
	client.expect(bulk("a") + bulk("b") + "$-1\r\n")
}
