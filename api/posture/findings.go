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

// exception is a finding that somebody has accepted.
type exception struct {
	Estate   string    `json:"estate"`
	Finding  string    `json:"finding"`
	Control  string    `json:"control"`
	Resource string    `json:"resource"`
	Owner    string    `json:"owner"`
	Reason   string    `json:"reason"`
	Expires  time.Time `json:"expires"`
}

// filter reads which findings a request asks for.
func filter(r *http.Request) (f governance.Filter, err error) {
	q := r.URL.Query()
	f = governance.Filter{
		Estate: q.Get("estate"), Standing: governance.Standing(q.Get("standing")), AtLeast: judged.Severity(q.Get("atLeast")),
		Control: q.Get("control"), Resource: q.Get("resource"),
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
	all := make([]exception, len(found.Findings))
	for i, s := range found.Findings {
		x := s.Finding.Excepted
		all[i] = exception{s.Estate, s.Finding.ID, s.Finding.Control, s.Finding.Resource, x.Owner, x.Reason, x.Expires.Time}
	}
	body := list(all)
	body.Total, body.Next = &found.Total, next(r, found.Next)
	api.WriteJSON(w, http.StatusOK, body)
	return nil
}
