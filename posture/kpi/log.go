package kpi

import (
	"cmp"
	"slices"
	"time"
)

// calm is how long nothing comes between two episodes of refusals.
const calm = time.Hour

// mostGroups is how many callers a report names.
const mostGroups = 50

// blocked counts what vaults have refused.
func (l ledger) blocked(w Window) KPI {
	k := KPI{
		Name: "blockedAttempts", Title: "Unauthorised key access attempts blocked", Unit: "attempts",
		Formula: "requests on keys that a vault has refused its caller (403, and 401 of a token that did not hold), each request id once; the first 401 of a connection, which asks for a token, is none",
	}
	if l.LogFrom.IsZero() {
		k.not("no vault's audit log was read")
		return k
	}
	if !l.LogFrom.Before(w.Until) {
		k.not("the vault's audit log begins on %s, after the window", l.LogFrom.UTC().Format(time.DateOnly))
		return k
	}
	if l.LogFrom.After(w.From) {
		k.note("the vault's audit log tells nothing of before %s", l.LogFrom.UTC().Format(time.RFC3339))
	}
	type caller struct{ principal, key string }
	groups := map[caller]*Group{}
	months := map[time.Time]int{}
	attempts, episodes := 0, 0
	who, first := map[string]bool{}, map[string]bool{}
	for _, a := range l.Attempts {
		if a.Time.Before(w.From) {
			first[a.Principal] = true
		}
		if !w.holds(a.Time) {
			continue
		}
		attempts++
		who[a.Principal] = true
		months[monthOf(a.Time)]++
		c := caller{a.Principal, a.Key}
		g := groups[c]
		if g == nil {
			g = &Group{Name: cmp.Or(a.Principal, "(no valid token)") + " at " + a.Key, First: a.Time}
			groups[c] = g
		}
		if g.Count == 0 || a.Time.Sub(g.Last) > calm {
			episodes++
		}
		g.Count++
		g.Last = a.Time
	}
	fresh := 0
	for p := range who {
		if !first[p] {
			fresh++
		}
	}
	k.count("attempts", attempts)
	k.count("episodes", episodes)
	k.count("principals", len(who))
	k.count("principalsNotSeenBefore", fresh)
	k.note("an episode is a caller's refusals at one key without an hour's pause: a client that retries is one, however often it does. A platform that keeps asking for a key that was taken from it is among the callers")
	for _, g := range groups {
		k.Groups = append(k.Groups, *g)
	}
	slices.SortFunc(k.Groups, func(a, b Group) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name)) })
	if len(k.Groups) > mostGroups {
		k.note("%d further callers are not listed", len(k.Groups)-mostGroups)
		k.Groups = k.Groups[:mostGroups]
	}
	from := w.From
	if l.LogFrom.After(from) {
		from = l.LogFrom
	}
	for m := monthOf(from); m.Before(w.Until); m = m.AddDate(0, 1, 0) {
		k.Series = append(k.Series, Point{Time: m, Value: float64(months[m]), Part: m.Before(from) || m.AddDate(0, 1, 0).After(w.Until)})
	}
	k.is(float64(attempts))
	return k
}

func monthOf(t time.Time) time.Time {
	t = t.UTC()
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// drill is how long a key that was taken away went on to serve, when it was tried.
func (l ledger) drill(w Window) KPI {
	k := KPI{
		Name: "drillTime", Title: "Revocation drill: until nothing can be read any more", Unit: "s",
		Formula: "the slowest trial of the newest drill of each scope in the window, from the vault's confirmation to the first refusal of all that was tried",
	}
	newest := map[string]Drill{}
	n := 0
	for _, d := range l.Drills {
		if w.holds(d.Time) {
			newest[d.Scope] = d
			n++
		}
	}
	k.count("drills", n)
	k.count("scopes", len(newest))
	switch {
	case !l.DrillLog:
		k.not("no platform's audit log was read")
		return k
	case n == 0:
		k.not("no drill in the window: run 'kluis drill'")
		return k
	}
	var dark, back time.Duration
	for _, d := range newest {
		dark, back = max(dark, d.Dark), max(back, d.Back)
	}
	k.in("backAgain", back.Seconds(), "s")
	k.note("a drill's maker has measured it; the platform vouches for when it was told, and what")
	k.is(dark.Seconds())
	return k
}
