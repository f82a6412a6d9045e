package main

import (
	"math/rand/v2"
	"time"

	"github.com/kluis-io/kluis/encryption/pace"
)

// tick is how often a process looks at its leases, as encryption.Keyring.Run does.
const tick = 250 * time.Millisecond

const perSecond = int32(time.Second / tick)

// Times in the model are ticks since epoch.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(t int32) time.Time { return epoch.Add(time.Duration(t) * tick) }

func ticks(d time.Duration) int32 { return int32((d + tick - 1) / tick) }

// A size says what is simulated.
type size struct {
	Workspaces int `json:"workspaces"`
	Replicas   int `json:"replicas"`
	Vaults     int `json:"vaults"`   // a tenant's each, and as many workspaces under each
	Affinity   int `json:"affinity"` // how many of the replicas serve one tenant; 0 means all

	Budget float64       `json:"budgetPerSecond"` // of one vault
	Lease  time.Duration `json:"leaseNanoseconds"`
	Bound  time.Duration `json:"boundNanoseconds"`

	Seed uint64 `json:"seed"`
}

// classes say how often workspaces are used: their share, and how often one is asked
// for in a second.
var classes = []struct {
	share, rate float64
}{{0.01, 1}, {0.09, 1. / 60}, {0.90, 1. / 3600}}

const (
	poll       = 15 * time.Second
	answerTime = tick            // of a vault that is there: at the next tick
	timeOut    = 5 * time.Second // of one that is not
	openWait   = 5 * time.Second
	lookWithin = time.Hour
	notified   = time.Second      // within which other replicas learn of a no from the database
	secondYes  = 10 * time.Second // of a vault without a feed, after a no
)

// Azure's throttle of one vault with RSA-2048 software keys.
const (
	azureLimit  = 4000
	azureWindow = 10 * time.Second
)

type serving uint8

const (
	serves serving = iota
	revoked
	unreachable
)

// A scope is a workspace under a customer's key.
type scope struct {
	vault    int32
	first    int32 // of its entries, or -1
	serving  serving
	version  int32 // of its key that wraps its share
	given    int32 // when the newest lease was given that replicas share
	length   int32
	asking   int32 // until when somebody asks for it
	firstYes int32 // of a vault without a feed, after a no; -1 for none
}

// An entry is a scope that one replica holds open, or is opening.
type entry struct {
	scope, replica int32
	next           int32 // of the scope's entries
	gen            uint32
	leased         bool
	hinted         bool
	busy           bool  // a question is on its way
	opening        int32 // until when somebody waits for it to be opened
	waiting        int64 // how many do
	given, length  int32
	used, renewal  int32
	looked         int32
	queued         int32 // the tick in which it is looked at next
}

// A vault is somebody else's.
type vault struct {
	down, denies, feed bool
	version            int32
	deniedSince        int32
	window             int32 // which ten seconds
	inWindow           int32
	second             int32 // which second
	inSecond           int32
}

// A budget is one replica's of one vault.
type budget struct {
	pace.Budget
	demand float64
}

// A ref is an entry as it was when it was noted.
type ref struct {
	entry int32
	gen   uint32
}

// An answer is on its way from a vault.
type answer struct {
	ref
	sent  int32
	scope int32
	poll  bool // of a scope without access, by nobody's entry
	by    int32
	no    bool
	none  bool // there is none
	busy  bool // it says that it has too much to do
}

// A world is one simulation.
type world struct {
	size
	random  *rand.Rand
	now     int32
	scopes  []scope
	vaults  []vault
	entries []entry
	free    []int32
	budgets []*budget // by replica and vault
	wheel   [][]ref   // by tick, in a ring
	answers [][]answer
	polls   [][]int32       // scopes without access, by tick
	told    [][2]int32      // scope, and when all replicas know that it is revoked
	open    []ref           // somebody waits for these, and the budget did not allow it yet
	holding map[int64]int32 // entries, by scope and replica

	counts
}

// counts are what is counted.
type counts struct {
	Requests  int64 `json:"requests"`
	Served    int64 `json:"served"`
	Refused   int64 `json:"refused"`   // the vault said no
	Failed    int64 `json:"failed"`    // 503: the vault did not answer, or the budget was spent for five seconds
	Unwraps   int64 `json:"unwraps"`   // asked
	Gets      int64 `json:"gets"`      // for newer versions
	Wraps     int64 `json:"wraps"`     // and the unwraps that compare
	Shared    int64 `json:"shared"`    // renewals taken from another replica's
	Throttled int64 `json:"throttled"` // 429 by the vault
	Reads     int64 `json:"databaseReads"`
	Writes    int64 `json:"databaseWrites"`
	Late      int64 `json:"servedBeyondBound"` // must be 0
}

func newWorld(s size) *world {
	if s.Affinity == 0 || s.Affinity > s.Replicas {
		s.Affinity = s.Replicas
	}
	w := &world{
		size: s, random: rand.New(rand.NewPCG(s.Seed, 1)),
		scopes: make([]scope, s.Workspaces), vaults: make([]vault, s.Vaults),
		budgets: make([]*budget, s.Replicas*s.Vaults),
		wheel:   make([][]ref, ticks(2*time.Hour)), answers: make([][]answer, ticks(time.Minute)),
		polls: make([][]int32, ticks(2*time.Hour)), holding: map[int64]int32{},
	}
	for i := range w.scopes {
		w.scopes[i] = scope{vault: int32(i % s.Vaults), first: -1, given: -1 << 30, firstYes: -1}
	}
	for i := range w.vaults {
		w.vaults[i].feed = i%2 == 1
	}
	return w
}

func (w *world) budget(replica, vault int32) *budget {
	i := int(replica)*w.Vaults + int(vault)
	b := w.budgets[i]
	if b == nil {
		b = &budget{Budget: *pace.NewBudget(pace.Share(w.size.Budget, w.Replicas, w.Affinity), at(w.now))}
		w.budgets[i] = b
	}
	return b
}

func (w *world) demand(e *entry, n float64) {
	b := w.budget(e.replica, w.scopes[e.scope].vault)
	b.demand += n
	b.Demand(b.demand)
}

func (e *entry) clock(now int32) pace.Clock {
	return pace.Clock{
		Leased: e.leased, Valid: now < e.given+e.length, Hinted: e.hinted,
		Given: at(e.given), Used: at(e.used), Renewal: at(e.renewal),
		Poll: at(1 << 28), // who polls is the scope: see poll
	}
}

// queue has an entry looked at in a tick, unless it is sooner.
func (w *world) queue(i, when int32) {
	e := &w.entries[i]
	when = max(when, w.now+1)
	if e.queued > w.now && e.queued <= when {
		return
	}
	e.queued = when
	slot := int(when) % len(w.wheel)
	w.wheel[slot] = append(w.wheel[slot], ref{i, e.gen})
}

// step does what happens in one tick.
func (w *world) step() {
	w.now++
	now := int(w.now)
	due := w.answers[now%len(w.answers)]
	w.answers[now%len(w.answers)] = nil
	for _, a := range due {
		w.answered(a)
	}
	w.learn()
	refs := w.wheel[now%len(w.wheel)]
	w.wheel[now%len(w.wheel)] = nil
	for _, r := range refs {
		if e := &w.entries[r.entry]; e.gen == r.gen && e.queued == w.now {
			w.tend(r.entry)
		}
	}
	scopes := w.polls[now%len(w.polls)]
	w.polls[now%len(w.polls)] = nil
	for _, s := range scopes {
		w.try(s)
	}
	waiting := w.open
	w.open = w.open[:0:0]
	for _, r := range waiting {
		if e := &w.entries[r.entry]; e.gen == r.gen && !e.leased && !e.busy {
			w.opening(r.entry)
		}
	}
	w.requests()
	if w.now%perSecond == 0 {
		w.Reads += 2 * int64(w.Replicas) // each looks for scopes that have lost access, and for those that change
	}
}

// tend does what is due about a lease, as encryption.Keyring.tend does.
func (w *world) tend(i int32) {
	e := &w.entries[i]
	c := e.clock(w.now)
	switch c.Due(at(w.now)) {
	case pace.Expire:
		inUse := e.used >= e.given+e.length/2
		s := e.scope
		w.drop(i)
		if inUse && w.scopes[s].serving == serves && w.vaults[w.scopes[s].vault].down {
			w.latch(s, unreachable)
		}
	case pace.Renew:
		switch {
		case e.busy:
			w.queue(i, w.now+perSecond)
		case !e.hinted && w.shared(e):
			w.Shared++
			w.queue(i, e.renewal)
		case !e.hinted && w.scopes[e.scope].asking > w.now:
			w.Reads++
			w.queue(i, w.now+perSecond/2)
		case !w.budget(e.replica, w.scopes[e.scope].vault).Take(at(w.now), c.Urgency(), 1):
			w.queue(i, w.now+1)
		default:
			w.Reads++
			w.Writes++ // the claim
			w.scopes[e.scope].asking = w.now + 3*perSecond
			e.hinted, e.renewal = false, int32(pace.Again(at(w.now), w.random.Float64()).Sub(epoch)/tick)
			w.ask(i)
			w.queue(i, e.renewal)
		}
	case pace.Nothing:
		if e.leased {
			next := e.given + e.length
			if w.now < e.renewal {
				next = e.renewal
			}
			w.queue(i, next)
		}
	}
}

// shared renews a lease from what another replica was told, if that is younger than
// half a lease.
func (w *world) shared(e *entry) bool {
	s := &w.scopes[e.scope]
	w.Reads++
	if s.given <= e.given || s.given+s.length-w.now <= s.length/2 || s.serving != serves {
		return false
	}
	e.given, e.length = s.given, s.length
	e.renewal = int32(pace.Renewal(at(e.given), time.Duration(e.length)*tick, w.random.Float64()).Sub(epoch) / tick)
	return true
}

// ask puts the question of an entry to its vault.
func (w *world) ask(i int32) {
	e := &w.entries[i]
	e.busy = true
	w.put(answer{ref: ref{i, e.gen}, scope: e.scope, by: e.replica})
}

// put puts a question to a vault, and has the answer arrive.
func (w *world) put(a answer) {
	a.sent = w.now
	w.Unwraps++
	w.Writes++ // the audit entry
	v := &w.vaults[w.scopes[a.scope].vault]
	after := ticks(answerTime)
	switch {
	case v.down:
		a.none, after = true, ticks(timeOut)
	case !v.operation(w.now, 1):
		a.none, a.busy = true, true
		w.Throttled++
	case v.denies:
		a.no = true
	}
	slot := int(w.now+after) % len(w.answers)
	w.answers[slot] = append(w.answers[slot], a)
}

// operation counts an operation of the vault's, and reports whether its throttle lets
// it through.
func (v *vault) operation(now int32, n int32) bool {
	if window := now / ticks(azureWindow); window != v.window {
		v.window, v.inWindow = window, 0
	}
	if second := now / perSecond; second != v.second {
		v.second, v.inSecond = second, 0
	}
	v.inSecond += n
	if v.inWindow+n > azureLimit {
		return false
	}
	v.inWindow += n
	return true
}

// answered is what a vault's answer does, as encryption.Keyring.renew and open do.
func (w *world) answered(a answer) {
	s := &w.scopes[a.scope]
	b := w.budget(a.by, s.vault)
	if a.none {
		var after time.Duration
		if a.busy {
			after = time.Second
		}
		b.Unanswered(at(w.now), after, w.random.Float64())
	} else {
		b.Answered(at(w.now))
	}
	if !a.poll {
		s.asking = 0
		if e := &w.entries[a.entry]; e.gen == a.gen {
			e.busy = false
		}
	}
	switch {
	case a.no:
		if s.serving != revoked {
			w.latch(a.scope, revoked)
			w.told = append(w.told, [2]int32{a.scope, w.now + int32(w.random.IntN(int(ticks(notified))+1))})
		}
		s.firstYes = -1
		if !a.poll && w.entries[a.entry].gen == a.gen {
			w.fail(a.entry, &w.Refused)
		}
		return
	case a.none:
		if !a.poll && w.entries[a.entry].gen == a.gen && !w.entries[a.entry].leased {
			w.fail(a.entry, &w.Failed)
			if s.serving == serves {
				w.latch(a.scope, unreachable)
			}
		}
		return
	}
	if s.serving == revoked { // the second yes, of a vault whose first may be a cache's
		if !w.vaults[s.vault].feed && (s.firstYes < 0 || w.now-s.firstYes < ticks(secondYes)) {
			if s.firstYes < 0 {
				s.firstYes = w.now
				next := int(w.now+ticks(secondYes)) % len(w.polls)
				w.polls[next] = append(w.polls[next], a.scope)
			}
			return
		}
	}
	if s.serving != serves {
		s.serving, s.firstYes = serves, -1
		w.Writes++
	}
	w.Reads++
	w.Writes++ // the lease that the others share
	length := ticks(b.Length(w.Lease, w.Bound))
	s.given, s.length = a.sent, length
	switch key := int64(a.scope)<<16 | int64(a.by); {
	case a.poll && w.has(key):
		return
	case a.poll: // who asks in vain opens it when the vault says yes
		a.entry = w.hold(a.scope, a.by)
		w.holding[key] = a.entry
	case w.entries[a.entry].gen != a.gen:
		return
	}
	e := &w.entries[a.entry]
	if !e.leased {
		e.leased = true
		e.used = w.now
		w.demand(e, 1)
		w.Served += e.waiting
		e.waiting = 0
	}
	e.given, e.length = a.sent, length
	e.renewal = int32(pace.Renewal(at(e.given), time.Duration(length)*tick, w.random.Float64()).Sub(epoch) / tick)
	if w.queue(a.entry, e.renewal); e.hinted {
		w.queue(a.entry, w.now+1)
	}
	w.follow(e, b)
}

func (w *world) has(key int64) bool { _, ok := w.holding[key]; return ok }

// follow looks for a newer version of the key, as encryption.Keyring.followVersion does.
func (w *world) follow(e *entry, b *budget) {
	u := pace.Looking
	if e.looked > 0 && w.now-e.looked >= ticks(lookWithin) {
		u = pace.Keeping
	}
	s := &w.scopes[e.scope]
	v := &w.vaults[s.vault]
	if !b.Take(at(w.now), u, 1) {
		return
	}
	w.Gets++
	if !v.operation(w.now, 1) {
		w.Throttled++
		return
	}
	if v.version != s.version {
		if !b.Take(at(w.now), u, 2) {
			return
		}
		w.Wraps += 2
		if !v.operation(w.now, 2) {
			w.Throttled++
			return
		}
		s.version = v.version
		w.Writes += 2
	}
	e.looked = w.now
}

// latch notes that a scope has no access, and has it tried again.
func (w *world) latch(s int32, why serving) {
	w.Writes++
	w.scopes[s].serving = why
	w.later(s)
}

// later has a scope without access tried again. Many replicas try each so much more
// seldom, and together at random: their sum is simulated, and not each.
func (w *world) later(s int32) {
	gap := pace.Poll(epoch, poll, 1, w.random.Float64()).Sub(epoch)
	if w.Replicas > 1 {
		mean := pace.Poll(epoch, poll, w.Replicas, 0.5).Sub(epoch) / time.Duration(w.Replicas)
		gap = time.Duration(w.random.ExpFloat64() * float64(mean))
	}
	when := int(w.now + min(max(1, ticks(gap)), int32(len(w.polls)-1)))
	w.polls[when%len(w.polls)] = append(w.polls[when%len(w.polls)], s)
}

// try tries a scope without access again.
func (w *world) try(s int32) {
	sc := &w.scopes[s]
	if sc.serving == serves {
		return
	}
	by := int32(w.random.IntN(w.Replicas))
	if !w.budget(by, sc.vault).Take(at(w.now), pace.Trying, 1) {
		next := (int(w.now) + 1) % len(w.polls) // stays due
		w.polls[next] = append(w.polls[next], s)
		return
	}
	w.Reads++
	w.later(s)
	if sc.asking > w.now && sc.firstYes < 0 {
		return // another replica has it
	}
	w.Writes++ // the claim
	sc.asking = w.now + ticks(poll/2)
	w.put(answer{scope: s, poll: true, by: by})
}

// learn has the replicas know of revocations.
func (w *world) learn() {
	left := w.told[:0]
	for _, t := range w.told {
		if t[1] > w.now {
			left = append(left, t)
			continue
		}
		for i := w.scopes[t[0]].first; i >= 0; {
			next := w.entries[i].next
			w.drop(i)
			i = next
		}
	}
	w.told = left
}

// drop ends an entry.
func (w *world) drop(i int32) {
	e := &w.entries[i]
	if e.leased {
		w.demand(e, -1)
	}
	s := &w.scopes[e.scope]
	if s.first == i {
		s.first = e.next
	} else {
		for j := s.first; j >= 0; j = w.entries[j].next {
			if w.entries[j].next == i {
				w.entries[j].next = e.next
				break
			}
		}
	}
	delete(w.holding, int64(e.scope)<<16|int64(e.replica))
	*e = entry{gen: e.gen + 1}
	w.free = append(w.free, i)
}

// fail ends an entry that was to be opened, and counts for what.
func (w *world) fail(i int32, as *int64) {
	*as += w.entries[i].waiting
	w.drop(i)
}
