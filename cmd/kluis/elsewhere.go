package main

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/cmd/kluis/cli"
	"github.com/kluis-io/kluis/internal/sdk"
)

// watchedLogs returns the logs that governance reads of the vault and of the platform: those
// of this process, or, where the configured profile says that a party is served elsewhere,
// that party's by its interface, as whoever scans. One that nobody serves is nil.
func (s *server) watchedLogs() (vault, platform entryLog, err error) {
	if s.custodian != nil {
		vault = s.custodian.log
	}
	if s.operator != nil {
		platform = s.operator.log
	}
	if s.config.Posture.Profile == "" || vault != nil && platform != nil {
		return vault, platform, nil
	}
	flags := s.config.Posture.flags(s.config.Data)
	t, err := flags.server.target()
	if err != nil {
		return nil, nil, err
	}
	if at := t.Endpoints["audit"]; vault == nil && at != "" && t.Endpoints["vault"] != "" {
		vault = logElsewhere{flags.server, t, at, vaultDir}
	}
	if at := orDefault(t.Endpoints["platformAudit"], t.Endpoints["audit"]); platform == nil && at != "" && t.Endpoints["fabric"] != "" {
		platform = logElsewhere{flags.server, t, at, platformDir}
	}
	return vault, platform, nil
}

// A logElsewhere is the audit log of a party that another process serves, as far as its
// reader may read it: the entries of his tenant.
type logElsewhere struct {
	reader serverFlags
	target sdk.Target
	at     string // the interface's origin
	party  string
}

// Entries asks for a page, the oldest first.
func (l logElsewhere) Entries(ctx context.Context, q audit.Query) ([]audit.Numbered, error) {
	clients, err := sdk.New(l.target)
	if err != nil {
		return nil, err
	}
	o, err := clients.OfficerAs(l.reader.as)
	if err != nil {
		return nil, err
	}
	after := ""
	if q.After != nil {
		after = strconv.FormatInt(*q.After, 10)
	}
	query := queried("order", "oldest", "from", instant(q.From), "until", instant(q.Until), "operation", q.Operation, "after", after, "limit", strconv.Itoa(max(q.Limit, 1)))
	var page struct {
		Value []audit.Numbered `json:"value"`
	}
	address := url.URL{Path: "/audit/v1/" + l.party + "/entries", RawQuery: query.Encode()}
	err = cli.Explain(o.Call(ctx, l.at+"/.default", "GET", l.at+address.String(), nil, &page))
	return page.Value, err
}

// instant returns a time as interfaces take it, "" if there is none.
func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
