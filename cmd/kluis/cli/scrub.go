package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// scrubStatus is the answer of /v1/admin/scrub.
type scrubStatus struct {
	Running  bool       `json:"running"`
	Total    int64      `json:"totalBytes"`
	Pass     scrubPass  `json:"pass"`
	LastPass *scrubPass `json:"lastPass,omitempty"`
	Damaged  []struct {
		Extent string    `json:"extentId"`
		Item   string    `json:"itemId"`
		Owner  string    `json:"ownerId"`
		Found  time.Time `json:"foundDateTime"`
	} `json:"damaged"`
}

type scrubPass struct {
	Begun   time.Time  `json:"begunDateTime,omitzero"`
	Ended   *time.Time `json:"endedDateTime,omitempty"`
	Extents int64      `json:"extents"`
	Bytes   int64      `json:"bytes"`
	Unread  int64      `json:"unread"`
}

func lakeScrub(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "scrub",
		Short: "Tell how far the scrub has come, and what it has found damaged",
		Long: `Tell how far the scrub has come, and what it has found damaged.

The platform reads and opens every byte that it stores within 30 days. Data whose
workspace's key cannot be used is counted as unread. What does not open is listed
here until it is gone: restore it from a backup. This takes the right to read the
tenant's settings: use --as auditor or --as admin.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := s.engineer()
			if err != nil {
				return err
			}
			var st scrubStatus
			if err := e.Fabric.Call(cmd.Context(), "GET", "/admin/scrub", nil, &st); err != nil {
				return err
			}
			pass := func(p scrubPass, total string) []string {
				ended := "-"
				if p.Ended != nil {
					ended = p.Ended.Format(time.DateTime)
				}
				return []string{p.Begun.Format(time.DateTime), ended, fmt.Sprint(p.Extents), bytes(p.Bytes) + total, fmt.Sprint(p.Unread)}
			}
			if s.output != "table" {
				return s.show(st, "", nil)
			}
			var rows [][]string
			if st.Running {
				rows = append(rows, pass(st.Pass, " of "+bytes(st.Total)))
			}
			if st.LastPass != nil {
				rows = append(rows, pass(*st.LastPass, ""))
			}
			if err := s.show(st, "BEGUN,ENDED,EXTENTS,READ,UNREAD", rows); err != nil || len(st.Damaged) == 0 {
				return err
			}
			rows = nil
			for _, d := range st.Damaged {
				rows = append(rows, []string{d.Extent, d.Item, d.Owner, d.Found.Format(time.DateTime)})
			}
			return s.show(st, "DAMAGED EXTENT,ITEM,FILE,FOUND", rows)
		},
	}
}
