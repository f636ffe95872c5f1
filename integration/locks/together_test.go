package locks

import (
	"slices"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// together are the scenes that need nothing of their stage but proxies.
var together = slices.Concat(lineScenes, holdScenes, tokenScenes, mlockScenes, waitScenes, guardScenes, memoScenes)

var lineScenes = []stage.Scene{
	{Name: "a lock is held by one caller at a time", Run: heldByOne},
	{Name: "a grant is a token and a fence", Run: grantReply},
	{Name: "NOWAIT and WAIT end without the lock", Run: notGrantedInTime},
	{Name: "WAIT 0 has no bound", Run: waitZero},
	{Name: "nil is RESP3's own in RESP3", Run: nilReplies},
	{Name: "twenty waiters get the lock in the order in which Redis saw them", Run: firstComeFirstServed},
	{Name: "newcomers never overtake who waits", Run: newcomers},
	{Name: "an unlock hands the lock on in the same step", Run: handedOnAtOnce},
	{Name: "a lease that runs out goes to the first in line", Run: leaseRunsOut},
	{Name: "a lease made shorter by a hand-off is noticed", Run: shorterByHandOff},
	{Name: "a lease made shorter by KS.EXTEND is noticed", Run: shorterByExtend},
	{Name: "KS.STATUS tells all but the token", Run: status},
	{Name: "names and databases are apart", Run: apart},

	{Name: "a waiter that hangs up is out of the line", Run: waiterHangsUp},
	{Name: "a grant that crosses a hang-up is handed on", Run: grantCrossesHangUp},
	{Name: "waiting for oneself is told", Run: waitingForOneself},
	{Name: "waiting for an unlock that was sent behind is told", Run: waitingForWhatIsBehind},
}

var holdScenes = []stage.Scene{
	{Name: "a lease is as long as was asked for", Run: leaseLengths},
	{Name: "a lease survives the connection", Run: leaseSurvives},
	{Name: "KS.EXTEND makes a lease longer for its owner alone", Run: extendByOwner},
	{Name: "KS.UNLOCK without a token gives back what this connection got", Run: unlockWithoutToken},
}

var tokenScenes = []stage.Scene{
	{Name: "the owner asking again gets the same grant", Run: ownerAsksAgain},
	{Name: "a waiter asking again takes its place over", Run: waiterAsksAgain},
	{Name: "a call that is sent again while the first one ends has what it is told", Run: sentAgainMeanwhile},
	{Name: "a place is kept for a while after its call has ended", Run: placeIsKept},
	{Name: "a caller that loops with its TOKEN keeps its place", Run: loopsWithToken},
}

var memoScenes = []stage.Scene{
	{Name: "one of fifty generates", Run: oneGenerates},
	{Name: "a generator that gives up is followed by one waiter", Run: generatorGivesUp},
	{Name: "a rejected promise is told on all proxies", Run: rejected},
	{Name: "a rejection with a TTL is remembered", Run: rejectionRemembered},
	{Name: "a value that a stranger stores wakes the waiters", Run: strangerStores},
	{Name: "memo callers that hang up leave nothing behind", Run: memoCallersHangUp},
	{Name: "lock and memo callers stand in one line", Run: mixedLine},
}

// What is promised does not depend on how many proxies there are: both play the same scenes.
func TestOnOneProxy(t *testing.T) { stage.Setup{Proxies: 1}.Play(t, together) }

func TestOnThreeProxies(t *testing.T) { stage.Setup{Proxies: 3}.Play(t, together) }
