package main

import (
	"math"
	"slices"
	"time"

	"github.com/kluis-io/kluis/encryption/pace"
)

// requests are what clients want in one tick: of each class of workspaces a number that
// is Poisson distributed, each at any workspace of the class and any replica that
// serves it.
func (w *world) requests() {
	from := 0
	for i, c := range classes {
		n := int(float64(w.Workspaces) * c.share)
		if i == len(classes)-1 {
			n = w.Workspaces - from
		}
		for range w.poisson(float64(n) * c.rate * tick.Seconds()) {
			s := int32(from + w.random.IntN(n))
			// Which replicas serve a tenant is any of them, or a run of them that its number
			// picks.
			r := int32((int(w.scopes[s].vault)*7919 + w.random.IntN(w.Affinity)) % w.Replicas)
			w.request(s, r)
		}
		from += n
	}
}

func (w *world) poisson(mean float64) int {
	if mean > 50 {
		return max(0, int(math.Round(mean+math.Sqrt(mean)*w.random.NormFloat64())))
	}
	n, p, l := 0, 1.0, math.Exp(-mean)
	for {
		if p *= w.random.Float64(); p <= l {
			return n
		}
		n++
	}
}

// request is one client's, as encryption.Keyring.Use answers it.
func (w *world) request(s, r int32) {
	w.Requests++
	w.Reads++ // the scope's row
	key := int64(s)<<16 | int64(r)
	i, ok := w.holding[key]
	if ok {
		e := &w.entries[i]
		switch {
		case e.leased && w.now < e.given+e.length:
			w.serve(i)
			return
		case !e.leased:
			e.waiting++
			return
		}
		w.drop(i)
	}
	if w.scopes[s].serving == revoked {
		w.Refused++
		return
	}
	i = w.hold(s, r)
	w.holding[key] = i
	e := &w.entries[i]
	e.waiting, e.opening = 1, w.now+ticks(openWait)
	w.opening(i)
}

// serve serves a request from a lease.
func (w *world) serve(i int32) {
	e := &w.entries[i]
	w.Served++
	v := &w.vaults[w.scopes[e.scope].vault]
	if v.denies && w.now-v.deniedSince > ticks(w.Bound) {
		w.Late++
	}
	e.used = w.now
	if w.now >= e.renewal && !e.busy {
		w.queue(i, w.now+1)
	}
}

// hold makes an entry.
func (w *world) hold(s, r int32) int32 {
	var i int32
	if n := len(w.free); n > 0 {
		i, w.free = w.free[n-1], w.free[:n-1]
	} else {
		i = int32(len(w.entries))
		w.entries = append(w.entries, entry{})
	}
	gen := w.entries[i].gen
	w.entries[i] = entry{scope: s, replica: r, gen: gen, next: w.scopes[s].first}
	w.scopes[s].first = i
	return i
}

// opening asks for a scope that somebody waits for, as soon as the budget allows.
func (w *world) opening(i int32) {
	e := &w.entries[i]
	s := &w.scopes[e.scope]
	b := w.budget(e.replica, s.vault)
	switch {
	case b.Take(at(w.now), pace.Opening, 1):
		w.Reads++
		w.ask(i)
	case b.Silent():
		if s.serving == serves {
			w.latch(e.scope, unreachable)
		}
		w.fail(i, &w.Failed)
	case w.now >= e.opening:
		w.fail(i, &w.Failed)
	default:
		w.open = append(w.open, ref{i, e.gen})
	}
}

// hint is what a vault's feed does: everything of it that is open is asked for again,
// and everything without access.
func (w *world) hint(vault int32) {
	for s := int(vault); s < w.Workspaces; s += w.Vaults {
		for i := w.scopes[s].first; i >= 0; i = w.entries[i].next {
			w.entries[i].hinted = true // one that is opening is asked for again once it is
			w.queue(i, w.now+1)
		}
		if w.scopes[s].serving != serves {
			next := int(w.now+1) % len(w.polls)
			w.polls[next] = append(w.polls[next], int32(s))
		}
	}
}

// A phase is a stretch of the simulation, and what was counted in it.
type phase struct {
	Name    string  `json:"phase"`
	Minutes float64 `json:"minutes"`
	counts

	Active       int     `json:"workspacesInUse"` // at its end: open somewhere
	Entries      int     `json:"leases"`          // at its end, over all replicas
	LeaseSeconds float64 `json:"meanLeaseSeconds"`
	VaultSecond  int32   `json:"vaultPeakPerSecond"` // most that one vault was asked in a second
	VaultWindow  int32   `json:"vaultPeakPer10Seconds"`
	AllWindow    int64   `json:"allVaultsPeakPer10Seconds"`

	Milestones map[string]float64 `json:"milestonesSeconds,omitempty"` // since the phase began
}

// run runs a phase. Each second look may note a milestone.
func (w *world) run(name string, d time.Duration, look func(second int, note func(string))) phase {
	p := phase{Name: name, Minutes: d.Minutes(), Milestones: map[string]float64{}}
	before := w.counts
	var last int64
	begin := w.now
	note := func(what string) {
		if _, ok := p.Milestones[what]; !ok {
			p.Milestones[what] = float64(w.now-begin) / float64(perSecond)
		}
	}
	calls := func() int64 { return w.Unwraps + w.Gets + w.Wraps }
	last = calls()
	for i := range ticks(d) {
		w.step()
		for v := range w.vaults {
			if vt := &w.vaults[v]; vt.second == w.now/perSecond {
				p.VaultSecond, p.VaultWindow = max(p.VaultSecond, vt.inSecond), max(p.VaultWindow, vt.inWindow)
			}
		}
		if (i+1)%ticks(azureWindow) == 0 {
			p.AllWindow, last = max(p.AllWindow, calls()-last), calls()
		}
		if look != nil && (i+1)%perSecond == 0 {
			look(int((i+1)/perSecond), note)
		}
	}
	p.counts = w.counts.minus(before)
	total := 0.0
	in := map[int32]bool{}
	for i := range w.entries {
		if e := &w.entries[i]; e.leased {
			p.Entries++
			in[e.scope] = true
			total += (time.Duration(e.length) * tick).Seconds()
		}
	}
	p.Active = len(in)
	if p.Entries > 0 {
		p.LeaseSeconds = total / float64(p.Entries)
	}
	return p
}

func (c counts) minus(d counts) counts {
	return counts{
		Requests: c.Requests - d.Requests, Served: c.Served - d.Served, Refused: c.Refused - d.Refused, Failed: c.Failed - d.Failed,
		Unwraps: c.Unwraps - d.Unwraps, Gets: c.Gets - d.Gets, Wraps: c.Wraps - d.Wraps, Shared: c.Shared - d.Shared,
		Throttled: c.Throttled - d.Throttled, Reads: c.Reads - d.Reads, Writes: c.Writes - d.Writes, Late: c.Late - d.Late,
	}
}

// story is the whole of it.
func (w *world) story() (phases []phase) {
	phases = append(phases, w.run("warming up", 2*time.Minute, nil))
	phases = append(phases, w.run("steady state", time.Hour, nil))

	for v := range w.vaults {
		w.vaults[v].version++
	}
	phases = append(phases, w.run("rotation of every key", 10*time.Minute, func(_ int, note func(string)) {
		n, used := 0, 0
		for i := range w.entries {
			if e := &w.entries[i]; e.leased {
				used++
				if w.scopes[e.scope].version == w.vaults[w.scopes[e.scope].vault].version {
					n++
				}
			}
		}
		for _, share := range []struct {
			name string
			of   float64
		}{{"half of the leases are of the new version", 0.5}, {"99 % are", 0.99}} {
			if float64(n) >= share.of*float64(used) {
				note(share.name)
			}
		}
	}))

	// A tenth of the vaults says no: half of those have a feed.
	denied := max(2, w.Vaults/10)
	for v := range denied {
		w.vaults[v].denies, w.vaults[v].deniedSince = true, w.now
		if w.vaults[v].feed {
			w.hint(int32(v))
		}
	}
	phases = append(phases, w.run("mass revocation", 5*time.Minute, func(_ int, note func(string)) {
		for feed, name := range map[bool]string{true: "last lease ended, vaults with a feed", false: "last lease ended, vaults without"} {
			if w.leases(denied, feed) == 0 {
				note(name)
			}
		}
	}))
	for v := range denied {
		w.vaults[v].denies = false
		if w.vaults[v].feed {
			w.hint(int32(v))
		}
	}
	latched := w.latched()
	phases = append(phases, w.run("restoring access", 5*time.Minute, w.returning(latched)))

	for v := range w.vaults {
		w.vaults[v].down = true
	}
	phases = append(phases, w.run("outage of every vault", 10*time.Minute, nil))
	for v := range w.vaults {
		w.vaults[v].down = false
	}
	latched = w.latched()
	phases = append(phases, w.run("recovery", 5*time.Minute, w.returning(latched)))
	return phases
}

// returning notes when scopes that were without access have it.
func (w *world) returning(latched []int32) func(int, func(string)) {
	return func(_ int, note func(string)) {
		n := 0
		for _, s := range latched {
			if w.scopes[s].serving == serves {
				n++
			}
		}
		if 2*n >= len(latched) {
			note("half have access")
		}
		if float64(n) >= 0.99*float64(len(latched)) {
			note("99 % have access")
		}
		if n == len(latched) {
			note("all have access")
		}
	}
}

func (w *world) inUse() (all []int32) {
	for i := range w.entries {
		if e := &w.entries[i]; e.leased {
			all = append(all, e.scope)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (w *world) latched() (all []int32) {
	for i := range w.scopes {
		if w.scopes[i].serving != serves {
			all = append(all, int32(i))
		}
	}
	return all
}

// leases counts those that the first vaults have left.
func (w *world) leases(vaults int, feed bool) (n int) {
	for i := range w.entries {
		if e := &w.entries[i]; e.leased && int(w.scopes[e.scope].vault) < vaults && w.vaults[w.scopes[e.scope].vault].feed == feed {
			n++
		}
	}
	return n
}
