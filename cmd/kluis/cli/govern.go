package cli

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/internal/sdk"
)

func encryptionRotate(s *session) *cobra.Command {
	var nowait bool
	c := s.on("rotate WORKSPACE", "Deep rotation: a new scope key, and everything encrypted anew under it", cobra.ExactArgs(1),
		func(ctx context.Context, f *sdk.Fabric, id string, _ []string) error {
			if err := f.Call(ctx, "POST", "/workspaces/"+id+"/encryption/rotate", nil, nil); err != nil {
				return err
			}
			return s.wait(ctx, f, id, nowait)
		})
	c.Flags().BoolVar(&nowait, "no-wait", false, "do not wait until every item is done")
	return c
}

func encryptionPreview(s *session) *cobra.Command {
	return s.on("preview WORKSPACE KEY-IDENTIFIER", "Tell all that stands against assigning a key, and change nothing", cobra.ExactArgs(2),
		func(ctx context.Context, f *sdk.Fabric, id string, args []string) error {
			var p struct {
				Allowed  bool `json:"allowed"`
				Blockers []struct {
					Code    string `json:"errorCode"`
					Message string `json:"message"`
					Mend    string `json:"mend,omitempty"`
					Subject string `json:"relatedResourceId,omitempty"`
				} `json:"blockers"`
				Items      int    `json:"items"`
				KeyVersion string `json:"keyVersion,omitempty"`
				Algorithm  string `json:"algorithm,omitempty"`
				Bound      int64  `json:"killSwitchBoundSeconds,omitempty"`
			}
			if err := f.Call(ctx, "POST", "/workspaces/"+id+"/encryption/preview", map[string]string{"keyIdentifier": args[1]}, &p); err != nil {
				return err
			}
			if s.output == "table" && p.Allowed {
				return s.done("Nothing stands against it: %d items come under version %s (%s), with a kill switch of %s at most.",
					p.Items, p.KeyVersion[strings.LastIndexByte(p.KeyVersion, '/')+1:], p.Algorithm, time.Duration(p.Bound)*time.Second)
			}
			var rows [][]string
			for _, b := range p.Blockers {
				rows = append(rows, []string{b.Code, b.Message, b.Mend})
			}
			return s.show(p, "BLOCKER,WHY,WHAT MENDS IT", rows)
		})
}

func encryptionBound(s *session) *cobra.Command {
	return s.on("bound WORKSPACE DURATION", "Set the workspace's own kill-switch bound: how long its key may be used unasked; 0 for the installation's", cobra.ExactArgs(2),
		func(ctx context.Context, f *sdk.Fabric, id string, args []string) error {
			bound, err := time.ParseDuration(args[1])
			if err != nil || bound%time.Second != 0 {
				return usage("a bound is in whole seconds, such as 30s or 5m, not %q", args[1])
			}
			return s.govern(ctx, f, id, "PUT", "killSwitchBound", map[string]int64{"seconds": int64(bound / time.Second)})
		})
}

func encryptionKeyLost(s *session) *cobra.Command {
	var undo bool
	c := s.on("key-lost WORKSPACE", "Declare that the workspace's key is gone for good, or with --undo that it is not", cobra.ExactArgs(1),
		func(ctx context.Context, f *sdk.Fabric, id string, args []string) error {
			if !undo {
				if err := s.confirm("Workspace "+args[0]+" counts as lost from now on, until its key comes back.", args[0]); err != nil {
					return err
				}
			}
			return s.govern(ctx, f, id, "PUT", "keyLost", map[string]bool{"lost": !undo})
		})
	c.Flags().BoolVar(&undo, "undo", false, "take the declaration back")
	s.confirmFlag(c)
	return c
}

func encryptionRevalidate(s *session) *cobra.Command {
	return s.on("revalidate WORKSPACE", "Have the platform ask the vault for the workspace's key now", cobra.ExactArgs(1),
		func(ctx context.Context, f *sdk.Fabric, id string, _ []string) error {
			return s.govern(ctx, f, id, "POST", "revalidate", nil)
		})
}

// govern makes one call on a workspace's encryption, and shows what it is then.
func (s *session) govern(ctx context.Context, f *sdk.Fabric, id, method, call string, body any) error {
	if err := f.Call(ctx, method, "/workspaces/"+id+"/encryption/"+call, body, nil); err != nil {
		return err
	}
	st, err := f.Encryption(ctx, id)
	if err != nil {
		return err
	}
	return s.showStatus(st)
}

func encryptionImpact(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "impact KEY-IDENTIFIER",
		Short: "Say which workspaces go dark if a key goes, of those that you may see",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := s.engineer()
			if err != nil {
				return err
			}
			var a struct {
				KeyIdentifier string           `json:"keyIdentifier"`
				Workspaces    []map[string]any `json:"workspaces"`
			}
			if err := e.Fabric.Call(cmd.Context(), "GET", "/admin/encryption/impact?keyIdentifier="+url.QueryEscape(args[0]), nil, &a); err != nil {
				return err
			}
			var rows [][]string
			for _, w := range a.Workspaces {
				serving, _ := w["serving"].(map[string]any)
				rows = append(rows, []string{text(w, "displayName"), text(w, "id"), fmt.Sprint(w["items"]), text(serving, "state"),
					fmt.Sprintf("%vs", w["killSwitchBoundSeconds"])})
			}
			return s.show(a, "WORKSPACE,ID,ITEMS,SERVING,DARK WITHIN", rows)
		},
	}
}
