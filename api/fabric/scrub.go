package fabric

import (
	"context"
	"net/http"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/lake"
)

// A Scrubber tells what the lake's scrub has done. A [lake.Lake] does.
type Scrubber interface {
	ScrubStatus(ctx context.Context, caller identity.Caller) (lake.ScrubStatus, error)
}

type scrubAnswer struct {
	Running  bool            `json:"running"`
	Total    int64           `json:"totalBytes"`
	Pass     scrubPass       `json:"pass"`
	LastPass *scrubPass      `json:"lastPass,omitempty"`
	Damaged  []damagedExtent `json:"damaged"`
}

type scrubPass struct {
	Begun   time.Time  `json:"begunDateTime,omitzero"`
	Ended   *time.Time `json:"endedDateTime,omitempty"`
	Extents int64      `json:"extents"`
	Bytes   int64      `json:"bytes"`
	Unread  int64      `json:"unread"` // extents whose workspace's key could not be used
}

type damagedExtent struct {
	Extent string    `json:"extentId"`
	Item   string    `json:"itemId"`
	Owner  string    `json:"ownerId"`
	Found  time.Time `json:"foundDateTime"`
}

func toPass(p lake.ScrubPass) scrubPass {
	out := scrubPass{Begun: p.Begun, Extents: p.Extents, Bytes: p.Bytes, Unread: p.Unread}
	if !p.Ended.IsZero() {
		out.Ended = &p.Ended
	}
	return out
}

// scrub tells what the scrub has done, and which of the tenant's data is damaged.
func (c *call) scrub() error {
	if c.config.Scrub == nil {
		return fault.New(fault.NotFound, "Nothing is scrubbed here.")
	}
	st, err := c.config.Scrub.ScrubStatus(c.r.Context(), c.caller)
	if err != nil {
		return err
	}
	a := scrubAnswer{Running: st.Running, Total: st.Total, Pass: toPass(st.Pass), Damaged: []damagedExtent{}}
	if !st.Last.Ended.IsZero() {
		last := toPass(st.Last)
		a.LastPass = &last
	}
	for _, d := range st.Damaged {
		a.Damaged = append(a.Damaged, damagedExtent{string(d.Extent), string(d.Item), d.Owner, d.Found})
	}
	return c.answer(http.StatusOK, a)
}
