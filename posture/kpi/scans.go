package kpi

import (
	"math"
	"slices"
	"time"

	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/history"
)

const noScan = "no scan in the window"

// coverage is what of the resources that need a customer's key lies under one.
func (l ledger) coverage(w Window) KPI {
	k := KPI{
		Name: "coverage", Title: "In-scope resources under a customer-managed key", Unit: "%",
		Formula: "compliant / in scope, of each estate's newest scan in the window; in scope = compliant + non-compliant + unknown + excepted, of the resources that the policy wants under a key and that can be",
	}
	last := l.last(w)
	if len(last) == 0 {
		k.not(noScan)
		return k
	}
	var compliant, scope, non, unknown, excepted, unsupported, unclassified, gaps int
	for _, p := range last {
		s := p.Summary
		compliant, scope, non, unknown = compliant+s.Compliant, scope+s.InScope, non+s.NonCompliant, unknown+s.Unknown
		excepted, unsupported, unclassified, gaps = excepted+s.Excepted, unsupported+s.NotSupported, unclassified+s.Unclassified, gaps+len(p.Gaps)
	}
	k.count("compliant", compliant)
	k.count("inScope", scope)
	k.count("nonCompliant", non)
	k.count("unknown", unknown)
	k.count("excepted", excepted)
	k.count("notSupported", unsupported)
	k.count("unclassified", unclassified)
	k.count("gaps", gaps)
	if gaps > 0 {
		k.note("%d things could not be read: what lies there is in neither number", gaps)
	}
	if unclassified > 0 {
		k.note("%d resources are reached by no rule, and are in neither number", unclassified)
	}
	for _, p := range l.within(w) {
		if p.Summary.InScope > 0 {
			k.Series = append(k.Series, Point{Time: p.Time, Estate: p.Estate, Value: float64(p.Summary.Compliant), Of: float64(p.Summary.InScope), Part: len(p.Gaps) > 0})
		}
	}
	if scope == 0 {
		k.not("nothing is in scope: the policy wants no resource under a customer's key, or there is no policy")
		return k
	}
	k.share(compliant, scope)
	return k
}

// remediation is how long what did not hold went on not to.
func (l ledger) remediation(w Window) KPI {
	k := KPI{
		Name: "timeToRemediate", Title: "Time to remediate, median", Unit: "h",
		Formula: "from the first scan that saw a control fail for a subject to the first that saw it hold; median and 90th percentile (nearest rank) of those that ended in the window. A finding that comes back is a new one; what was excepted or removed is not remediated, and what nobody could read stays open",
	}
	scans := l.within(w)
	if len(scans) == 0 {
		k.not(noScan)
		return k
	}
	began, before, longest := map[string]time.Time{}, map[string]time.Time{}, time.Duration(0)
	for _, s := range l.Scans {
		if _, known := began[s.Estate]; !known {
			began[s.Estate] = s.Time
		} else if w.holds(s.Time) {
			longest = max(longest, s.Time.Sub(before[s.Estate]))
		}
		before[s.Estate] = s.Time
	}
	var closed, ages []time.Duration
	var lives []life
	accepted, gone, unknown, again, older := 0, 0, 0, 0, 0
	past := map[string]bool{} // findings that were remediated before
	for _, s := range l.Spans {
		id := s.Estate + "\x00" + s.Finding.ID
		returned := past[id]
		ended := !s.Resolved.IsZero() && s.Resolved.Before(w.Until)
		end, status := w.Until, s.StatusAt(w.Until)
		if ended {
			end, status = s.Resolved, s.StatusAt(s.Resolved)
			past[id] = past[id] || s.Ended == history.Mended
		} else if before, known := before[s.Estate]; !known || before.Before(w.From) {
			continue // nobody has looked in the window
		}
		took := end.Sub(s.First)
		remedied := ended && s.Ended != history.Removed && status == history.Failing
		if w.holds(s.First) && status != history.Unknown {
			lives = append(lives, life{took, remedied})
			if returned {
				again++
			}
		}
		switch {
		case ended && !w.holds(s.Resolved):
		case status == history.Excepted:
			accepted++
		case status == history.Unknown:
			unknown++
		case remedied:
			closed = append(closed, took)
		case ended:
			gone++
		default:
			ages = append(ages, took)
			if s.First.Equal(began[s.Estate]) {
				older++
			}
		}
	}
	slices.Sort(closed)
	slices.Sort(ages)
	k.count("remediated", len(closed))
	if len(closed) > 0 {
		k.in("p90", hours(rank(closed, 0.9)), "h")
	}
	k.count("open", len(ages))
	if len(ages) > 0 {
		k.in("openAgeMedian", hours(rank(ages, 0.5)), "h")
		k.in("openAgeP90", hours(rank(ages, 0.9)), "h")
		k.in("openAgeOldest", hours(ages[len(ages)-1]), "h")
	}
	k.count("reopened", again)
	k.count("excepted", accepted)
	k.count("removed", gone)
	k.count("unknown", unknown)
	if m, reached := quantile(lives, 0.5); reached {
		k.in("medianWithOpen", hours(m), "h")
	} else if len(lives) > 0 {
		k.note("half of what was found in the window is not remediated yet: with the open ones counted as longer than they are, the median is not reached")
	}
	k.in("longestBetweenScans", hours(longest), "h")
	k.note("medianWithOpen is the Kaplan-Meier median of what was found in the window, in which open, excepted and removed findings count as longer than they have lasted")
	if older > 0 {
		k.note("%d open findings were there at the first scan: they are older than their ages say", older)
	}
	if again > 0 {
		k.note("%d findings had been remediated before: each time counts for itself, and quick returns make the median look good", again)
	}
	if len(closed) == 0 {
		k.not("nothing was remediated in the window")
		return k
	}
	k.is(hours(rank(closed, 0.5)))
	return k
}

func hours(d time.Duration) float64 { return math.Round(d.Hours()*1000) / 1000 }

// rank returns the nearest-rank quantile of sorted values.
func rank(sorted []time.Duration, q float64) time.Duration {
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// A life is how long something lasted, and whether it ended or only was lost sight
// of.
type life struct {
	lasted time.Duration
	ended  bool
}

// quantile returns the Kaplan-Meier estimate of a quantile, and whether enough lives
// have ended to tell it
// (Kaplan, Meier: Nonparametric estimation from incomplete observations, 1958).
func quantile(lives []life, q float64) (time.Duration, bool) {
	lives = slices.Clone(lives)
	slices.SortFunc(lives, func(a, b life) int { return int(min(1, max(-1, a.lasted-b.lasted))) })
	survive := 1.0
	for i := 0; i < len(lives); {
		t, atRisk, ends := lives[i].lasted, len(lives)-i, 0
		for ; i < len(lives) && lives[i].lasted == t; i++ {
			if lives[i].ended {
				ends++
			}
		}
		survive *= 1 - float64(ends)/float64(atRisk)
		if ends > 0 && survive <= 1-q+1e-9 {
			return t, true
		}
	}
	return 0, false
}

// versionless is what of the resources with a key follows its newest version.
func (l ledger) versionless(w Window) KPI {
	k := KPI{
		Name: "versionless", Title: "Resources that follow their key's newest version", Unit: "%",
		Formula: "resources whose every key is named without version / resources that name a key, of each estate's newest scan in the window",
	}
	followers, keyed, have := l.newest(w, func(s posture.Summary) (int, int) { return s.Followers, s.Keyed })
	k.count("versionless", followers)
	k.count("withKey", keyed)
	k.proportion(followers, keyed, have, "no resource names a key")
	return k
}

// newest adds up two numbers of each estate's newest scan in the window, and tells
// whether there is any.
func (l ledger) newest(w Window, of func(posture.Summary) (int, int)) (part, whole int, have bool) {
	for _, s := range l.last(w) {
		p, n := of(s.Summary)
		part, whole, have = part+p, whole+n, true
	}
	return part, whole, have
}

// proportion is what a part is of a whole, if there was a scan and there is a whole.
func (k *KPI) proportion(part, whole int, have bool, none string) {
	switch {
	case !have:
		k.not(noScan)
	case whole == 0:
		k.not("%s", none)
	default:
		k.share(part, whole)
	}
}

// radius is of how many keys all dependants are known.
func (l ledger) radius(w Window) KPI {
	k := KPI{
		Name: "blastRadiusKnown", Title: "Keys whose dependants are all known", Unit: "%",
		Formula: "keys that were read, in scans that read everything and know every resource's key / all keys read or named, of each estate's newest scan in the window",
	}
	all, known, have := 0, 0, false
	for _, p := range l.last(w) {
		all, known, have = all+p.Summary.Keys, known+p.Summary.KeysCertain, have || p.Register != ""
	}
	k.count("known", known)
	k.count("keys", all)
	switch {
	case !have:
		k.not(noScan + "; scans of releases without a key register do not count")
	case all == 0:
		k.not("no key was read or named")
	default:
		k.share(known, all)
		k.note("what a scan could not read may depend on any key: one gap makes the dependants of all keys of its scan a lower bound")
	}
	return k
}

// logged is how many vaults are known to keep their audit log.
func (l ledger) logged(w Window) KPI {
	k := KPI{
		Name: "auditLogCoverage", Title: "Vaults that keep their audit log", Unit: "%",
		Formula: "vaults for which control G15 holds / vaults read, of each estate's newest scan in the window",
	}
	logged, vaults, have := l.newest(w, func(s posture.Summary) (int, int) { return s.Logged, s.Vaults })
	k.count("logged", logged)
	k.count("vaults", vaults)
	k.proportion(logged, vaults, have, "no vault was read")
	return k
}

// separated counts who is custodian and data owner at once.
func (l ledger) separated(w Window) KPI {
	k := KPI{
		Name: "dutiesJoined", Title: "Findings of one who is custodian and data owner", Unit: "",
		Formula: "findings of control G16, excepted ones included, of each estate's newest scan in the window",
	}
	last := l.last(w)
	n, have := 0, false
	for _, p := range last {
		n, have = n+p.Summary.Overlaps, have || p.Summary.Vaults > 0
	}
	switch {
	case len(last) == 0:
		k.not(noScan)
	case !have:
		k.not("no vault was read")
	default:
		k.is(float64(n))
		k.note("who is in a group whose members were not read is not seen; its finding is unknown")
	}
	return k
}
