package posture

import (
	"encoding/base64"
	"net/http"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/governance"
	"github.com/kluis-io/kluis/identity"
	judged "github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/history"
)

// estateStatus is how an estate stands.
type estateStatus struct {
	Estate   string                  `json:"estate"`
	Scan     history.Scan            `json:"newestScan"`
	Findings map[judged.Severity]int `json:"findings"`
	Excepted int                     `json:"excepted"`
}

// exception is a finding that somebody has accepted. One of the policy has no id.
type exception struct {
	ID       string               `json:"id,omitempty"`
	Estate   string               `json:"estate,omitempty"`
	Finding  string               `json:"finding"`
	Control  string               `json:"control"`
	Resource string               `json:"resource"`
	Owner    string               `json:"owner"`
	Reason   string               `json:"reason"`
	Expires  time.Time            `json:"expires"`
	Made     time.Time            `json:"madeAt,omitzero"`
	By       identity.PrincipalID `json:"madeBy,omitempty"`
}

func showException(x governance.Exception) exception {
	return exception{
		ID: x.ID, Finding: x.Finding, Control: x.Control, Resource: x.Resource, Owner: x.Owner, Reason: x.Reason, Expires: x.Expires, Made: x.Made, By: x.By,
	}
}

// filter reads which findings a request asks for.
func filter(r *http.Request) (f governance.Filter, err error) {
	q := r.URL.Query()
	f = governance.Filter{
		Estate: q.Get("estate"), Standing: governance.Standing(q.Get("standing")), AtLeast: judged.Severity(q.Get("atLeast")),
		Control: q.Get("control"), Resource: q.Get("resource"), Order: history.Order(q.Get("order")),
	}
	if f.Limit, err = number(q.Get("top"), 100); err != nil {
		return f, err
	}
	after, err := base64.RawURLEncoding.DecodeString(q.Get("after"))
	if err != nil {
		return f, fault.New(fault.InvalidContinuation, "after is what the link of the page before says.")
	}
	f.After = string(after)
	return f, nil
}

// next is the link to the page after one.
func next(r *http.Request, position string) string {
	if position == "" {
		return ""
	}
	u := *r.URL
	q := u.Query()
	q.Set("after", base64.RawURLEncoding.EncodeToString([]byte(position)))
	u.RawQuery, u.Scheme, u.Host = q.Encode(), "https", r.Host
	return u.String()
}

func (p *posture) findings(w http.ResponseWriter, r *http.Request, c identity.Caller) error {
	f, err := filter(r)
	if err != nil {
		return err
	}
	found, err := p.records.Findings(r.Context(), c, f)
	if err != nil {
		return err
	}
	body := list(found.Findings)
	body.Total, body.Next = &found.Total, next(r, found.Next)
	api.WriteJSON(w, http.StatusOK, body)
	return nil
}

func (p *posture) exceptions(w http.ResponseWriter, r *http.Request, c identity.Caller) error {
	f, err := filter(r)
	if err != nil {
		return err
	}
	f.Standing = governance.Excepted
	found, err := p.records.Findings(r.Context(), c, f)
	if err != nil {
		return err
	}
	made, err := p.records.Exceptions(r.Context(), c)
	if err != nil {
		return err
	}
	byFinding := map[string]governance.Exception{}
	for _, x := range made {
		byFinding[x.Finding] = x
	}
	all := make([]exception, len(found.Findings))
	for i, s := range found.Findings {
		x := s.Finding.Excepted
		all[i] = exception{Finding: s.Finding.ID, Control: s.Finding.Control, Resource: s.Finding.Resource, Owner: x.Owner, Reason: x.Reason, Expires: x.Expires.Time}
		if own, ok := byFinding[s.Finding.ID]; ok && own.Owner == x.Owner && own.Reason == x.Reason {
			all[i] = showException(own)
		}
		all[i].Estate = s.Estate
	}
	body := list(all)
	body.Total, body.Next = &found.Total, next(r, found.Next)
	api.WriteJSON(w, http.StatusOK, body)
	return nil
}

func (p *posture) except(w http.ResponseWriter, r *http.Request, c identity.Caller) error {
	var body struct {
		Finding string `json:"finding"`
		Owner   string `json:"owner"`
		Reason  string `json:"reason"`
		Expires string `json:"expires"` // a day, 2026-12-31
	}
	if err := api.ReadJSON(r, maxBody, &body); err != nil {
		return err
	}
	day, err := time.Parse(time.DateOnly, body.Expires)
	if err != nil {
		return fault.New(fault.InvalidArgument, "expires is a day, written as in 2026-12-31.")
	}
	x, err := p.records.Except(r.Context(), c, body.Finding, body.Owner, body.Reason, day)
	if err == nil {
		w.Header().Set("Location", root+"/exceptions/"+x.ID)
		api.WriteJSON(w, http.StatusCreated, showException(x))
	}
	return err
}

func (p *posture) withdraw(w http.ResponseWriter, r *http.Request, c identity.Caller) error {
	err := p.records.Withdraw(r.Context(), c, r.PathValue("id"))
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// chain is a finding with what lies behind it.
type chain struct {
	history.Span

	Scanned time.Time           `json:"scannedAt"`
	Key     *judged.KeyRecord   `json:"key"`
	Vault   *judged.VaultRecord `json:"vault"`
	Grants  []grants            `json:"grants"`
}

type grants struct {
	Principal string `json:"principalId"`
	Kind      string `json:"principalType,omitempty"`
	Asks      bool   `json:"asks"` // the resource asks the vault as this principal
	Roles     []role `json:"roles"`
}

type role struct {
	Name  string `json:"name"`
	Scope string `json:"scope"`
}

func (p *posture) finding(w http.ResponseWriter, r *http.Request, c identity.Caller) error {
	found, err := p.records.Chain(r.Context(), c, r.URL.Query().Get("estate"), r.PathValue("id"))
	if err != nil {
		return err
	}
	out := chain{Span: found.Span, Scanned: found.Scan.Time, Key: found.Key, Vault: found.Vault, Grants: []grants{}}
	for _, g := range found.Grants {
		one := grants{Principal: g.Principal, Kind: g.Kind, Asks: g.Asks}
		for _, r := range g.Roles {
			one.Roles = append(one.Roles, role(r))
		}
		out.Grants = append(out.Grants, one)
	}
	api.WriteJSON(w, http.StatusOK, out)
	return nil
}

func (p *posture) plan(w http.ResponseWriter, r *http.Request, c identity.Caller) error {
	plan, err := p.records.Plan(r.Context(), c, r.PathValue("id"), r.URL.Query().Get("key"))
	if err == nil {
		api.WriteJSON(w, http.StatusOK, plan)
	}
	return err
}
