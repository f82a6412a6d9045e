package overview

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kluis-io/kluis/drill"
	"github.com/kluis-io/kluis/portal/client"
)

// custody is what the vaults themselves tell somebody, who need not be known to
// governance or to the platform.
type custody struct {
	Vaults, Keys int
	Capped       bool // there are more
	Disabled     int
	Expiry       int // enabled keys that expire within 30 days, or have expired
	Overdue      int // keys that their policy would have had rotated by now
	NoPolicy     int // keys that nothing rotates
	Look         []lookAt
	Drills       []drill.Away // keys that drills have away
	Blocked      int          // attempts in the window, by the vaults' log
	BlockedMore  bool
	MayLog       bool // whether the log may be read
}

// lookAt is a key that somebody has to look at.
type lookAt struct {
	Name, Vault, Why, Path string
}

const (
	mostVaults  = 20
	mostKeys    = 100 // of a vault
	mostBlocked = 1000
	nearExpiry  = 30 * 24 * time.Hour
)

// custodian asks the vaults that the user may see. It returns nil if there are none.
func custodian(ctx context.Context, p *client.Clients, days int) (*custody, error) {
	all, err := p.AllVaults(ctx, false)
	if err != nil {
		return nil, err
	}
	if hsms, err := p.AllVaults(ctx, true); err == nil {
		all = append(all, hsms...)
	}
	if len(all) == 0 {
		return nil, nil
	}
	d := &custody{Capped: len(all) > mostVaults}
	var mu sync.Mutex
	var wait sync.WaitGroup
	slots := make(chan struct{}, 8)
	for _, v := range all[:min(len(all), mostVaults)] {
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			one := look(ctx, p, v)
			mu.Lock()
			defer mu.Unlock()
			d.add(one)
		})
	}
	wait.Go(func() {
		n, may := blocked(ctx, p, days)
		mu.Lock()
		defer mu.Unlock()
		d.Blocked, d.MayLog, d.BlockedMore = n, may, n == mostBlocked
	})
	wait.Wait()
	if d.Vaults == 0 && !d.MayLog { // he may see that there are vaults, and nothing in them
		return nil, nil
	}
	return d, nil
}

func (d *custody) add(o custody) {
	d.Vaults += o.Vaults
	d.Keys += o.Keys
	d.Disabled += o.Disabled
	d.Expiry += o.Expiry
	d.Overdue += o.Overdue
	d.NoPolicy += o.NoPolicy
	d.Capped = d.Capped || o.Capped
	d.Look = append(d.Look, o.Look...)
	d.Drills = append(d.Drills, o.Drills...)
}

// look asks one vault for its keys. One that does not let the user list them counts
// nothing.
func look(ctx context.Context, p *client.Clients, v client.Vault) (d custody) {
	keys, more, err := p.ListKeys(ctx, v.Place(), "/keys", mostKeys)
	if err != nil {
		return d
	}
	d.Vaults, d.Keys, d.Capped = 1, len(keys), more
	base := "/vaults/"
	if v.Place().HSM {
		base = "/hsms/"
	}
	now := time.Now()
	policies := rotations(ctx, p, v, keys)
	for i, k := range keys {
		seen := func(why string) {
			d.Look = append(d.Look, lookAt{k.Name(), v.Name, why, base + url.PathEscape(v.Group()) + "/" + url.PathEscape(v.Name) + "/keys/" + url.PathEscape(k.Name())})
		}
		if !k.Attributes.Enabled {
			d.Disabled++
			seen("Disabled")
			if a, ok := away(ctx, p, v, k); ok {
				d.Look[len(d.Look)-1].Why = "Away for a drill"
				d.Drills = append(d.Drills, a)
			}
			continue
		}
		if at := k.Attributes.Expires.Time(); !at.IsZero() && at.Sub(now) < nearExpiry {
			d.Expiry++
			seen("Expires soon")
			if at.Before(now) {
				d.Look[len(d.Look)-1].Why = "Expired"
			}
		}
		if policies[i] == nil {
			continue
		}
		switch due, ok := rotation(*policies[i], k.Attributes.Created.Time()); {
		case !ok:
			d.NoPolicy++
		case due.Before(now.Add(-24 * time.Hour)): // by itself it takes a moment
			d.Overdue++
			seen("Rotation overdue")
		}
	}
	return d
}

// away tells of the drill that has a key away. Its newest version may have been off before.
func away(ctx context.Context, p *client.Clients, v client.Vault, k client.KeyItem) (drill.Away, bool) {
	versions, _, err := p.ListKeys(ctx, v.Place(), "/keys/"+url.PathEscape(k.Name())+"/versions", mostKeys)
	if err != nil {
		versions = []client.KeyItem{k}
	}
	for _, one := range versions {
		if a, ok := drill.AwayFrom(one.KID, one.Attributes.Enabled, one.Attributes.Updated.Time(), one.Tags[drill.Mark]); ok {
			return a, true
		}
	}
	return drill.Away{}, false
}

// rotations asks for the policies of the keys that are enabled, several at once. Of one that
// is not told there is none.
func rotations(ctx context.Context, p *client.Clients, v client.Vault, keys []client.KeyItem) []*client.RotationPolicy {
	policies := make([]*client.RotationPolicy, len(keys))
	var wait sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i, k := range keys {
		if !k.Attributes.Enabled {
			continue
		}
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			var policy client.RotationPolicy
			if _, err := p.Key(ctx, v.Place(), http.MethodGet, "/keys/"+url.PathEscape(k.Name())+"/rotationpolicy", nil, &policy); err == nil {
				policies[i] = &policy
			}
		})
	}
	wait.Wait()
	return policies
}

// rotation returns when a policy has a key rotated whose newest version is of a time; ok
// is false if it never does.
func rotation(p client.RotationPolicy, made time.Time) (due time.Time, ok bool) {
	for _, a := range p.Actions {
		if strings.EqualFold(a.Action.Type, "rotate") && a.Trigger.AfterCreate != "" {
			return after(made, a.Trigger.AfterCreate)
		}
	}
	return due, false
}

// after adds a duration of ISO 8601 in years, months and days, as rotation policies have
// them.
func after(t time.Time, duration string) (time.Time, bool) {
	rest, ok := strings.CutPrefix(strings.ToUpper(duration), "P")
	for ok && rest != "" {
		i := strings.IndexAny(rest, "YMWD")
		if i < 0 {
			return t, false
		}
		n, err := strconv.Atoi(rest[:i])
		if err != nil {
			return t, false
		}
		switch rest[i] {
		case 'Y':
			t = t.AddDate(n, 0, 0)
		case 'M':
			t = t.AddDate(0, n, 0)
		case 'W':
			t = t.AddDate(0, 0, 7*n)
		case 'D':
			t = t.AddDate(0, 0, n)
		}
		rest = rest[i+1:]
	}
	return t, ok
}

// blocked counts what the vaults have refused in the last days, by their log; may is
// false if the user may not read that.
func blocked(ctx context.Context, p *client.Clients, days int) (n int, may bool) {
	entries, err := p.AuditEntries(ctx, "vault", url.Values{
		"outcome": {"denied"}, "from": {time.Now().UTC().AddDate(0, 0, -days).Format(time.RFC3339)}, "limit": {strconv.Itoa(mostBlocked)},
	})
	var e *client.Error
	if errors.As(err, &e) {
		return 0, false
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Operation, "Key") { // a request on a key, not on the vault
			n++
		}
	}
	return n, err == nil
}
