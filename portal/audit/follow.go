package audit

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

// A party that acts for another party's request has that one's id beside its own, as the
// id that its client has sent. So a story goes from an entry to all of its request, to all
// that was asked of others for it, and to what it was itself asked for.

const (
	followSpan  = 24 * time.Hour // before and after the entry
	followLimit = 500            // entries of one log under one id
	followIDs   = 12             // ids of one story
)

// story is the page of what belongs together.
type story struct {
	Start   time.Time
	Span    int // hours that were searched before it and after
	Rows    []chapter
	Missing []missing
	Cut     bool // there is more than is shown
}

// A chapter is an entry of a story.
type chapter struct {
	row
	After string // since the story's first entry
	For   string // the other party's request that this one was made for
	Named string // the id that the client sent, if it is no request of the story's
}

// followed is the address of an entry's story.
func followed(e client.AuditEntry) string {
	if e.Request == "" {
		return ""
	}
	q := url.Values{"id": {e.Request}, "at": {e.Time.UTC().Format(time.RFC3339)}}
	if e.Correlation != "" {
		q.Add("id", e.Correlation)
	}
	return "/audit/follow?" + q.Encode()
}

func follow(c *portal.Call) error {
	q := c.R.URL.Query()
	at, err := time.Parse(time.RFC3339, q.Get("at"))
	if err != nil {
		at = time.Now()
	}
	parties, err := c.Parties.AuditParties(c.Context())
	if err != nil {
		return err
	}
	s := story{Start: at.UTC(), Span: int(followSpan / time.Hour)}
	entries := s.gather(c, parties, q["id"], at)
	slices.SortFunc(entries, func(a, b client.AuditEntry) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Party, b.Party), cmp.Compare(a.Sequence, b.Sequence))
	})
	s.tell(c, entries)
	return c.Render(portal.View{Title: "One request", Subtitle: "What every party has recorded of it, in the order in which it happened.",
		Template: "audit/follow", Crumbs: []portal.Crumb{{Title: "One request"}}, Data: s})
}

// gather asks every party for what it has under the ids, and under those of the requests
// that it finds.
func (s *story) gather(c *portal.Call, parties, ids []string, at time.Time) (all []client.AuditEntry) {
	type place struct {
		party    string
		sequence int64
	}
	seen, asked, silent := map[place]bool{}, map[string]bool{}, map[string]bool{}
	for len(ids) > 0 {
		id := strings.TrimSpace(ids[0])
		ids = ids[1:]
		if id == "" || asked[id] {
			continue
		}
		if len(asked) == followIDs {
			s.Cut = true
			break
		}
		asked[id] = true
		var lock sync.Mutex
		var busy sync.WaitGroup
		for _, party := range parties {
			busy.Go(func() {
				page, err := c.Parties.AuditEntries(c.Context(), party, url.Values{
					"request": {id}, "limit": {strconv.Itoa(followLimit)},
					"from": {at.Add(-followSpan).UTC().Format(time.RFC3339)}, "until": {at.Add(followSpan).UTC().Format(time.RFC3339)},
				})
				lock.Lock()
				defer lock.Unlock()
				if err != nil && !silent[party] {
					silent[party] = true
					s.Missing = append(s.Missing, missing{party, c.Explain(err)})
				}
				s.Cut = s.Cut || len(page) == followLimit
				for _, e := range page {
					if at := (place{party, e.Sequence}); !seen[at] {
						seen[at] = true
						all = append(all, e)
						ids = append(ids, e.Request)
					}
				}
			})
		}
		busy.Wait()
		parties = slices.DeleteFunc(slices.Clone(parties), func(p string) bool { return silent[p] })
	}
	slices.SortFunc(s.Missing, func(a, b missing) int { return strings.Compare(a.Party, b.Party) })
	return all
}

// tell makes a story of entries in the order of time.
func (s *story) tell(c *portal.Call, entries []client.AuditEntry) {
	who := people(c, entries)
	requests := map[string]bool{}
	for _, e := range entries {
		requests[e.Request] = true
	}
	for _, e := range entries {
		one := chapter{row: row{AuditEntry: e, Who: who(e)}}
		if since := e.Time.Sub(entries[0].Time); since > 0 {
			one.After = fmt.Sprintf("+%s", since.Round(time.Millisecond))
		}
		if requests[e.Correlation] {
			one.For = e.Correlation
		} else {
			one.Named = e.Correlation
		}
		s.Rows = append(s.Rows, one)
	}
}
