package kpi

import (
	"slices"
	"time"

	"github.com/kluis-io/kluis/posture"
)

// grace is how much later than due a rotation may be and still count as done: Azure
// rotates by policy within about a day of the time (learn.microsoft.com/azure/key-vault/keys/how-to-configure-key-rotation).
const grace = 24 * time.Hour

// A keyLife is what scans have seen of one key.
type keyLife struct {
	versions []version
	states   []keyState
}

type version struct {
	id      string
	created time.Time
}

// A keyState is a key as one scan has seen it.
type keyState struct {
	time    time.Time
	rotates string               // as [posture.KeyRecord].Rotation
	due     map[string]time.Time // by version
	gone    bool                 // deleted
}

// lives returns what the scans have seen of each key, by estate and identifier.
func (l ledger) lives() map[string]*keyLife {
	all := map[string]*keyLife{}
	for _, s := range l.Scans {
		g := l.Registers[s.Register]
		if g == nil {
			continue
		}
		for _, r := range g.Keys {
			if !r.Read {
				continue
			}
			id := s.Estate + "\x00" + r.Key
			if all[id] == nil {
				all[id] = &keyLife{}
			}
			all[id].add(s.Time, r)
		}
	}
	return all
}

func (k *keyLife) add(at time.Time, r posture.KeyRecord) {
	state := keyState{time: at, rotates: r.Rotation, due: map[string]time.Time{}, gone: r.Deleted}
	for _, v := range r.Versions {
		if v.Created == nil {
			continue
		}
		if !slices.ContainsFunc(k.versions, func(o version) bool { return o.id == v.Version }) {
			k.versions = append(k.versions, version{v.Version, *v.Created})
		}
		if v.Due != nil {
			state.due[v.Version] = *v.Due
		}
	}
	slices.SortStableFunc(k.versions, func(a, b version) int { return a.created.Compare(b.created) })
	k.states = append(k.states, state)
}

// A tally is what a key's rotations in a window come to.
type tally struct{ due, done, early, pending, without, unread int }

func (t *tally) add(o tally) {
	t.due, t.done, t.early, t.pending, t.without, t.unread = t.due+o.due, t.done+o.done, t.early+o.early, t.pending+o.pending, t.without+o.without, t.unread+o.unread
}

// rotated reckons one key. A version is due when the policy that the newest scan
// before that time saw says so. It was rotated if a successor was made before the
// due time and its grace were over. A key whose newest state in the window has no
// policy that rotates counts as one rotation that was due and not done.
func (k *keyLife) rotated(w Window) (t tally) {
	var last *keyState
	for i := range k.states {
		if k.states[i].time.Before(w.Until) {
			last = &k.states[i]
		}
	}
	if last == nil || last.gone || last.time.Before(w.From) {
		return t // deleted, or no scan of the window has seen it
	}
	switch last.rotates {
	case posture.RotatesNot:
		t.due, t.without = 1, 1
		return t
	case posture.RotationUnread:
		t.unread = 1
		return t
	}
	for i, v := range k.versions {
		if !v.created.Before(w.Until) {
			continue
		}
		due, told := k.dueOf(v.id, w.Until)
		if !told || !w.holds(due) {
			continue
		}
		var next time.Time
		if i+1 < len(k.versions) && k.versions[i+1].created.Before(w.Until) {
			next = k.versions[i+1].created
		}
		limit := due.Add(grace)
		switch {
		case !next.IsZero() && !next.After(limit):
			t.due++
			t.done++
			if next.Before(due) {
				t.early++
			}
		case last.time.Before(limit):
			t.pending++ // its time is not over, or nobody has looked since
		default:
			t.due++
		}
	}
	return t
}

// dueOf returns when a version was due, as the newest scan before a time told.
func (k *keyLife) dueOf(version string, until time.Time) (due time.Time, told bool) {
	for _, s := range k.states {
		if !s.time.Before(until) {
			break
		}
		if d, ok := s.due[version]; ok {
			due, told = d, true
		}
	}
	return due, told
}

// rotation is how many of the rotations that were due were done.
func (l ledger) rotation(w Window) KPI {
	k := KPI{
		Name: "rotationAdherence", Title: "Rotations done in time", Unit: "%",
		Formula: "rotations done by their due time and a day / rotations due in the window; due = the key's own rotation policy, reckoned from each version. A key without such a policy is one that was due and not done",
	}
	var t tally
	seen := false
	for _, life := range l.lives() {
		t.add(life.rotated(w))
		seen = true
	}
	k.count("done", t.done)
	k.count("due", t.due)
	k.count("doneEarly", t.early)
	k.count("pending", t.pending)
	k.count("keysWithoutPolicy", t.without)
	k.count("policiesNotRead", t.unread)
	if t.unread > 0 {
		k.note("of %d keys the rotation policy was not read: they are in neither number", t.unread)
	}
	if t.pending > 0 {
		k.note("%d rotations came due less than a day before the last scan, or nobody has looked since: they are in neither number", t.pending)
	}
	switch {
	case !seen:
		k.not("no key was read in any scan")
	case t.due == 0:
		k.not("no rotation was due in the window")
	default:
		k.share(t.done, t.due)
	}
	return k
}
