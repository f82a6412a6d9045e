package portal

import (
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/kluis-io/kluis/portal/client"
)

// A Problem is what a page says of something that did not work.
type Problem struct {
	Status int
	Title  string
	Detail string
	Mend   string
	Code   string // of the party that refused
	Party  string
	ID     string // of the request, by which its log knows it
	Cause  error  // goes to the log, and never onto the page
}

func (p *Problem) Error() string { return p.Title + ": " + p.Detail }

// Explain turns an error into what a page says of it. Errors of parties are told in
// their own words; whatever else it is goes to the log.
func (c *Call) Explain(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		if p.Cause != nil {
			slog.WarnContext(c.Context(), p.Title, "protocol", "portal", "error", p.Cause)
		}
		return p
	}
	var e *client.Error
	if !errors.As(err, &e) {
		slog.ErrorContext(c.Context(), "request failed", "protocol", "portal", "error", err)
		return &Problem{Status: http.StatusInternalServerError, Title: "The portal has failed",
			Detail: "What went wrong stands in the server's log."}
	}
	who := the(e.Party)
	p = &Problem{Status: e.Status, Detail: e.Message, Code: e.Code, Party: e.Party, ID: e.RequestID}
	switch {
	case e.Absent():
		p.Status, p.Title = http.StatusNotFound, "Not connected to "+strings.ToLower(who[:1])+who[1:]
		p.Detail = "This portal has been told no address of it, and so cannot show what it knows."
		p.Mend = "Name its address in the server's configuration, under portal."
	case e.Unreachable():
		p.Status, p.Title = http.StatusBadGateway, who+" did not answer"
		p.Mend = "Nothing was decided. Try again in a moment."
	case e.Status == http.StatusForbidden:
		p.Title = who + " refused"
	case e.Status == http.StatusNotFound:
		p.Title = "Not found"
	case e.Status >= 500:
		p.Status, p.Title = http.StatusBadGateway, who+" failed"
	default:
		p.Title = who + " did not accept this"
	}
	return p
}

type portalKey struct{}

// Fail answers a request that [Sessions] serves with an error's page.
func Fail(w http.ResponseWriter, r *http.Request, err error) {
	p, ok := r.Context().Value(portalKey{}).(*Portal)
	if !ok {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	(&Call{W: w, R: r, portal: p}).fail(err)
}

// fail answers with an error's page; if only a part of a page was wanted, with its
// message alone.
func (c *Call) fail(err error) {
	p := c.Explain(err)
	if c.Partial() {
		text, e := c.portal.fragment("portal/problem", "problem", p)
		if e == nil {
			c.write(p.Status, text)
			return
		}
		err = e
	} else if err = c.Render(View{Title: p.Title, Template: "portal/problem", Data: p, Status: p.Status}); err == nil {
		return
	}
	slog.ErrorContext(c.Context(), "rendering", "protocol", "portal", "error", err)
	http.Error(c.W, p.Title, http.StatusInternalServerError)
}

// the names a party at the beginning of a sentence.
func the(party string) string {
	if party == "governance" {
		return "Governance"
	}
	return "The " + party
}

func encodeNotice(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func decodeNotice(s string) string {
	text, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(text) > 500 {
		return ""
	}
	return string(text)
}
