package governance

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/history"
	"github.com/kluis-io/kluis/posture/remedy"
	"github.com/kluis-io/kluis/rbac"
)

// A Chain is what lies behind a finding, as its estate's newest scan saw it: the key, the
// key's vault, and who has which role there. What the scan did not see is nil.
type Chain struct {
	Span   history.Span
	Scan   history.Scan
	Key    *posture.KeyRecord
	Vault  *posture.VaultRecord
	Grants []Grants // by principal, those first as which the resource asks
}

// Grants are what one principal has at the key, or above it.
type Grants struct {
	Principal string
	Kind      string
	Asks      bool // the resource asks the vault as this principal
	Roles     []Role
}

// A Role is one that was given at a scope.
type Role struct{ Name, Scope string }

// Chain returns a finding, named by its id, with what lies behind it. If several estates
// have it, the first by name is meant, or the one named.
func (r *Records) Chain(ctx context.Context, c identity.Caller, estate, finding string) (out Chain, err error) {
	err = r.read(ctx, c, rbac.FindingsRead, "GetFinding", "/findings/"+identifier(finding), func(tx Tx) error {
		if finding == "" {
			return fault.New(fault.InvalidArgument, "A finding is named by its id.")
		}
		spans, err := tx.SelectSpans(history.Selection{Estate: estate, Finding: strings.ToLower(finding)}, history.Place{}, MostFindings)
		if err != nil {
			return err
		}
		if len(spans) == 0 {
			return fault.New(fault.NotFound, "There is no such finding.")
		}
		out.Span = spans[0]
		for _, s := range spans { // the last of its estate: it may have been mended and come back
			if s.Estate == out.Span.Estate {
				out.Span = s
			}
		}
		if out.Scan, err = history.Latest(tx, out.Span.Estate); err != nil || out.Scan.Register == "" {
			return err
		}
		body, err := tx.Register(out.Scan.Register)
		if err != nil {
			return err
		}
		var register posture.Register
		if err := json.Unmarshal(body, &register); err != nil {
			return err
		}
		out.follow(&register)
		return nil
	})
	return out, err
}

// follow looks the chain up in a register.
func (out *Chain) follow(register *posture.Register) {
	f := out.Span.Finding
	for i, k := range register.Keys {
		if f.Key != "" && strings.EqualFold(k.Key, f.Key) {
			out.Key = &register.Keys[i]
		}
	}
	ref := posture.ParseKeyRef(f.Key)
	about, _, _ := strings.Cut(f.Resource, "#")
	for i, v := range register.Vaults {
		if ref.Vault != "" && strings.EqualFold(v.Host, ref.Vault) || strings.EqualFold(v.ID, about) {
			out.Vault = &register.Vaults[i]
		}
	}
	if out.Vault == nil {
		return
	}
	at := strings.ToLower(out.Vault.ID)
	if ref.Name != "" {
		at += "/keys/" + strings.ToLower(ref.Name)
	}
	by := map[string]int{}
	for _, g := range register.Grants {
		scope := strings.TrimSuffix(strings.ToLower(g.Scope), "/")
		if at != scope && !strings.HasPrefix(at, scope+"/") {
			continue
		}
		i, seen := by[g.Principal]
		if !seen {
			i = len(out.Grants)
			by[g.Principal] = i
			asks := slices.ContainsFunc(f.Principals, func(p string) bool { return strings.EqualFold(p, g.Principal) })
			out.Grants = append(out.Grants, Grants{Principal: g.Principal, Kind: g.Kind, Asks: asks})
		}
		if r := (Role{posture.RoleName(g.Role), g.Scope}); !slices.Contains(out.Grants[i].Roles, r) {
			out.Grants[i].Roles = append(out.Grants[i].Roles, r)
		}
	}
	slices.SortStableFunc(out.Grants, func(a, b Grants) int {
		switch {
		case a.Asks == b.Asks:
			return strings.Compare(a.Principal, b.Principal)
		case a.Asks:
			return -1
		}
		return 1
	})
}

// A Plan is what mends a finding, and whether 'kluis posture remediate' does that itself.
type Plan struct {
	posture.Plan

	Applied  bool `json:"applied"`
	NeedsKey bool `json:"needsKey"` // the key to put the resource under has to be named
}

// Plan has the estate scanned, and returns the steps that mend a finding and those that
// undo it. It changes nothing.
func (r *Records) Plan(ctx context.Context, c identity.Caller, finding, key string) (p Plan, err error) {
	return p, r.long(ctx, c, rbac.FindingsRead, c.Entry("PlanRemediation", "/findings/"+identifier(finding)), func() error {
		ref := posture.ParseKeyRef(key)
		if key != "" && ref.IsZero() {
			return fault.New(fault.InvalidArgument, "This is no key identifier.")
		}
		found, err := r.look(ctx)
		if err != nil {
			return err
		}
		f, ok := found.Scan.Find(finding)
		if !ok {
			return fault.New(fault.NotFound, "A scan does not find it any more.").WithMend("It may be mended: scan again.")
		}
		p = Plan{posture.PlanFor(f, ref), remedy.Supported(f) == nil, remedy.NeedsKey(f)}
		return nil
	})
}
