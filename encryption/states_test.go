package encryption_test

import (
	"testing"

	"github.com/kluis-io/kluis/internal/effort"
)

// The protocol by which a scope's share comes under another wrap, or a scope under
// another key, as a machine small enough to visit all of its states: two replicas, three
// versions of a key, a custodian who disables, enables and rotates, a vault that may lie,
// and a crash of either replica between any two steps.
//
// Its rules are those of rotate.go (publishWrap), change.go, open.go (confirm), revoke.go
// (latch) and reconcile.go (finish). The search is made once with all of them, and must
// find no bad state; and once without each, and must find one: then the rule is needed,
// and the search sees.

// A replicaState is what one process holds in memory. All of it is lost in a crash.
//
// Of an epoch or a serial that it remembers, all that matters is whether the row's is
// another by now: that makes the machine finite, however often they change.
type replicaState struct {
	leased  bool // it holds the keys of generation gen
	gen     int8
	revoked bool // somebody has latched a no since those were opened

	doing   int8 // what it is in the midst of, one of the constants below
	epoch   bool // the row has got another epoch since this began
	serial  bool // or another serial
	version int8 // that it wraps under
	bad     bool // what the vault gave back is not a wrap of the share
}

const (
	idle       int8 = iota
	asked           // it has put the question that opening asks
	yes             // the vault has said yes, and nobody knows yet
	no              // the vault has said no, and nobody knows yet
	wrapped         // it has a new wrap, not yet seen to open
	verified        // and has seen it open
	changing        // the same for a new generation: a change of key
	untold          // it has committed, and the witness does not know
	publishing      // it has sealed data, and not published it
)

// A worldState is everything.
type worldState struct {
	gen     int8 // the sealing generation
	wrap    int8 // the version that wraps its share
	broken  bool // its wrap does not hold its share
	revoked bool

	items  int8 // the generation that the item is under
	linked bool // the older generation's key lies under the sealing one's
	old    bool // data lies under a key of an older generation

	newest  int8 // of the key's versions
	enabled [maxVersions + 1]bool
	lied    bool // the vault has lied, which it does once

	witness  int8 // -1 if it knows an older epoch than the row's, 1 if one that the row has not
	replicas [2]replicaState
	late     bool // a no that was latched was passed over
}

const (
	maxVersions = 3
	maxGens     = 2
)

// rules are what the code checks.
type rules struct {
	compareEpoch  bool // a change is published only over the row that it began with
	compareSerial bool // and only if nobody has said no since
	verify        bool // a new wrap is seen to open before the old one goes
	confirm       bool // data is published only while the scope serves, with a lease of this serial
	link          bool // a change of key keeps the older scope key under the newer
	retire        bool // an item is done, and the link goes, only if nothing is under the older key
	witnessAfter  bool // the witness is told after the commit, and not before
}

var allRules = rules{true, true, true, true, true, true, true}

// bad says what must never be so.
func (w worldState) bad() string {
	switch {
	case w.broken:
		return "the only wrap does not hold the share: the scope is lost"
	case w.items < w.gen && !w.linked, w.old && !w.linked:
		return "data lies under a generation to which no link leads: it is lost"
	case w.late:
		return "a no was passed over: data was published after it, or an older yes undid it"
	case w.witness > 0:
		return "the witness knows more than the database: a mere crash looks like a rollback"
	}
	return ""
}

// change is what every change of the row's epoch does.
func (w *worldState) change() {
	w.witness = -1
	for i := range w.replicas {
		w.replicas[i].epoch = w.replicas[i].doing != idle
	}
}

// latch is what a no does to the row.
func (w *worldState) latch() {
	w.revoked = true
	for i := range w.replicas {
		w.replicas[i].serial = w.replicas[i].doing != idle
		w.replicas[i].revoked = w.replicas[i].leased
	}
}

// next calls each with every state that may follow.
func (w worldState) next(r rules, each func(string, worldState)) {
	to := func(what string, edit func(*worldState)) {
		n := w
		edit(&n)
		each(what, n)
	}
	// The custodian.
	if w.newest < maxVersions {
		to("rotate", func(n *worldState) { n.newest++; n.enabled[n.newest] = true })
	}
	for v := int8(1); v <= w.newest; v++ {
		to("switch a version", func(n *worldState) { n.enabled[v] = !n.enabled[v] })
	}
	for i := range w.replicas {
		me := w.replicas[i]
		set := func(n *worldState, edit func(*replicaState)) { edit(&n.replicas[i]) }
		done := func(n *worldState) {
			n.replicas[i] = replicaState{leased: n.replicas[i].leased, gen: n.replicas[i].gen, revoked: n.replicas[i].revoked}
		}
		if me != (replicaState{}) {
			to("crash", func(n *worldState) { n.replicas[i] = replicaState{} })
		}
		switch me.doing {
		case idle:
			to("ask", func(n *worldState) {
				set(n, func(s *replicaState) { s.doing = asked })
			})
			if me.leased {
				if me.gen == w.gen && w.newest != w.wrap && w.enabled[w.newest] {
					wrap := func(bad bool) {
						to("wrap", func(n *worldState) {
							n.lied = n.lied || bad
							set(n, func(s *replicaState) {
								s.doing, s.version, s.bad = wrapped, w.newest, bad
								s.serial = me.revoked // it goes by the row that it opened
							})
						})
					}
					wrap(false)
					if !w.lied {
						wrap(true)
					}
				}
				// A change of key begins with a fresh yes of the old one's vault.
				if me.gen == w.gen && w.gen < maxGens && w.items == w.gen && w.enabled[w.newest] && w.enabled[w.wrap] {
					to("change", func(n *worldState) {
						set(n, func(s *replicaState) { s.doing, s.version = changing, w.newest })
					})
				}
			}
			if me.leased {
				to("seal data", func(n *worldState) { set(n, func(s *replicaState) { s.doing = publishing }) })
			}
			// Whoever has the keys may do the item's work.
			if me.leased && me.gen == w.gen && w.items < w.gen && (!w.old || !r.retire) {
				to("finish the item", func(n *worldState) { n.items = n.gen })
			} else if me.leased && me.gen == w.gen && w.items < w.gen {
				to("re-encrypt", func(n *worldState) { n.old = false })
			}
			if me.leased && w.linked && w.items == w.gen && (!w.old || !r.retire) {
				to("forget the link", func(n *worldState) { n.linked = false; n.change() })
			}
		case asked:
			to("answer", func(n *worldState) {
				set(n, func(s *replicaState) {
					s.doing = no
					if w.enabled[w.wrap] {
						s.doing = yes
					}
				})
			})
		case yes: // confirm
			to("open", func(n *worldState) {
				done(n)
				if me.epoch || me.serial && r.compareSerial {
					return
				}
				n.late = n.late || me.serial && w.revoked
				n.revoked = false
				set(n, func(s *replicaState) { s.leased, s.gen, s.revoked = true, w.gen, false })
			})
		case no: // latch
			to("latch", func(n *worldState) {
				done(n)
				set(n, func(s *replicaState) { *s = replicaState{} })
				if !me.epoch {
					n.latch()
				}
			})
		case wrapped:
			to("verify", func(n *worldState) {
				if me.bad && r.verify || !w.enabled[me.version] {
					done(n)
					return
				}
				set(n, func(s *replicaState) { s.doing = verified })
			})
		case verified, changing:
			if r.witnessAfter {
				to("publish", func(n *worldState) { w.publish(n, i, r, done) })
				break
			}
			to("tell the witness first", func(n *worldState) {
				w.publish(n, i, r, done)
			})
			to("tell the witness first, and die", func(n *worldState) {
				n.witness = 1
				n.replicas[i] = replicaState{}
			})
		case untold:
			to("tell the witness", func(n *worldState) {
				if !me.epoch { // else it tells of what is no longer so
					n.witness = 0
				}
				done(n)
			})
		case publishing:
			to("publish data", func(n *worldState) {
				done(n)
				if r.confirm && (w.revoked || me.revoked || me.gen < w.items) { // keys of before are gone once the item is done
					return
				}
				n.late = n.late || w.revoked
				n.old = n.old || me.gen < w.gen
			})
		}
	}
}

// publish is the transaction that puts a new wrap, or a new generation, in place.
func (w worldState) publish(n *worldState, i int, r rules, done func(*worldState)) {
	me := w.replicas[i]
	if me.epoch && r.compareEpoch || me.serial && r.compareSerial {
		done(n)
		return
	}
	if me.doing == changing {
		n.old = true // what is there lies under the older generation
		n.linked = r.link
		n.gen++
		n.replicas[i].gen = n.gen
	} else if me.gen != w.gen {
		n.broken = true // a wrap of another generation's share
	}
	n.wrap, n.broken = me.version, n.broken || me.bad
	n.revoked = false
	n.change()
	n.replicas[i].doing, n.replicas[i].epoch = untold, false
}

// less orders replicas somehow.
func less(a, b replicaState) bool {
	number := func(s replicaState) (n int) {
		for _, b := range []bool{s.leased, s.revoked, s.epoch, s.serial, s.bad} {
			n *= 2
			if b {
				n++
			}
		}
		return (n*16+int(s.doing))*64 + int(s.gen)*8 + int(s.version)
	}
	return number(a) < number(b)
}

// visit visits all states in the order of their distance, and returns how many there
// are and the way to the first bad one.
func visit(r rules, limit int) (states int, bad string, way []string) {
	type from struct {
		state worldState
		what  string
	}
	var first worldState
	first.gen, first.items, first.wrap, first.newest = 1, 1, 1, 1
	first.enabled[1] = true
	came := map[worldState]from{first: {}}
	queue := []worldState{first}
	for len(queue) > 0 && len(came) < limit {
		w := queue[0]
		queue = queue[1:]
		if bad = w.bad(); bad != "" {
			for w != first {
				way = append([]string{came[w].what}, way...)
				w = came[w].state
			}
			return len(came), bad, way
		}
		w.next(r, func(what string, n worldState) {
			if a, b := n.replicas[0], n.replicas[1]; less(b, a) { // which of the two it is does not matter
				n.replicas = [2]replicaState{b, a}
			}
			if _, seen := came[n]; !seen {
				came[n] = from{w, what}
				queue = append(queue, n)
			}
		})
	}
	return len(came), "", nil
}

// TestEveryStateOfAWrapChange visits every state that the protocol of wrap changes can
// reach, with all of its rules and without each of them.
func TestEveryStateOfAWrapChange(t *testing.T) {
	const limit = 1_000_000
	states, bad, way := visit(allRules, limit)
	if bad != "" || states >= limit {
		t.Errorf("of %d states one is bad: %s, by %v", states, bad, way)
	}
	for name, without := range map[string]func(*rules){
		"comparing the epoch":                       func(r *rules) { r.compareEpoch = false },
		"comparing the serial":                      func(r *rules) { r.compareSerial = false },
		"seeing a wrap open":                        func(r *rules) { r.verify = false },
		"confirming when data is published":         func(r *rules) { r.confirm = false },
		"keeping the older key under the newer":     func(r *rules) { r.link = false },
		"waiting until nothing is under an old key": func(r *rules) { r.retire = false },
		"telling the witness second":                func(r *rules) { r.witnessAfter = false },
	} {
		r := allRules
		without(&r)
		n, bad, way := visit(r, limit)
		if bad == "" {
			t.Errorf("without %s none of %d states is bad: the rule is not needed, or the search blind", name, n)
		}
		t.Logf("without %s: %s, after %v", name, bad, way)
	}
	effort.Proof(t, "states", states, "bad-states", 0)
}
