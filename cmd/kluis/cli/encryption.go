package cli

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/kluis-io/kluis/internal/sdk"
)

func encryptionCommand() *cobra.Command {
	return group("encryption", "See and change what key a workspace is under, as its admin", "engineer",
		encryptionStatus, encryptionPreview, encryptionAssign, encryptionReset, encryptionRotate, encryptionBound, encryptionKeyLost,
		encryptionRevalidate, encryptionImpact)
}

func encryptionStatus(s *session) *cobra.Command {
	var watch bool
	c := s.on("status WORKSPACE", "Show a workspace's key, its items, and which key versions are safe to disable", cobra.ExactArgs(1),
		func(ctx context.Context, f *sdk.Fabric, id string, _ []string) error {
			for {
				st, err := f.Encryption(ctx, id)
				switch {
				case watch && ctx.Err() != nil: // whoever watches may stop
					return nil
				case err != nil:
					return err
				}
				if err := s.showStatus(st); err != nil || !watch || !inProgress(st) {
					return err
				}
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(2 * time.Second):
				}
				if s.output == "table" {
					fmt.Fprintln(s.out)
				}
			}
		})
	c.Flags().BoolVar(&watch, "watch", false, "show it again every two seconds, until no change is in progress")
	return c
}

// inProgress reports whether a change of the workspace's encryption is under way.
func inProgress(st sdk.EncryptionStatus) bool {
	return strings.HasSuffix(st.Detail.Status, "InProgress")
}

func (s *session) showStatus(st sdk.EncryptionStatus) error {
	if s.output == "json" {
		return s.show(st, "", nil)
	}
	fmt.Fprintf(s.out, "status      %s\n", st.Detail.Status)
	fmt.Fprintf(s.out, "serving     %s\n", strings.TrimSpace(st.Serving.State+"  "+st.Serving.Detail))
	if st.Detail.KeyIdentifier != "" {
		fmt.Fprintf(s.out, "key         %s\n", st.Detail.KeyIdentifier)
	}
	if st.KeyVersion != "" {
		fmt.Fprintf(s.out, "version     %s\n", st.KeyVersion[strings.LastIndexByte(st.KeyVersion, '/')+1:])
	}
	fmt.Fprintf(s.out, "kill switch %s at most\n", time.Duration(st.Bound)*time.Second)
	if st.Lease > 0 {
		fmt.Fprintf(s.out, "lease       %s, stretched: its vault has more workspaces in use than the budget renews sooner\n", time.Duration(st.Lease)*time.Second)
	}
	if p := st.Progress; p != nil && p.TotalBytes > 0 {
		fmt.Fprintf(s.out, "progress    %s of %s\n", bytes(p.Bytes), bytes(p.TotalBytes))
	}
	var rows [][]string
	for _, g := range st.Items {
		for _, i := range g.Items {
			rows = append(rows, []string{i.DisplayName, i.Type, g.Status, strings.TrimSpace(i.Reason + " " + i.Detail)})
		}
	}
	if len(rows) > 0 {
		fmt.Fprintln(s.out)
		if err := s.show(nil, "ITEM,TYPE,STATUS,REASON", rows); err != nil {
			return err
		}
	}
	rows = nil
	var needed []string
	for _, v := range st.KeyVersions {
		rows = append(rows, []string{v.KID[strings.LastIndexByte(v.KID, '/')+1:], fmt.Sprint(v.LiveWraps), fmt.Sprint(v.Backups), yes(v.SafeToDisable)})
		if v.LiveWraps == 0 && v.Backups > 0 {
			needed = append(needed, fmt.Sprintf("Version %s is needed to restore %d backups, the newest of %s: disable it when they have gone.",
				v.KID[strings.LastIndexByte(v.KID, '/')+1:], v.Backups, v.NewestBackup.Format(time.DateTime)))
		}
	}
	if len(rows) == 0 {
		return nil
	}
	fmt.Fprintln(s.out)
	if err := s.show(nil, "KEY VERSION,LIVE WRAPS,BACKUPS,SAFE TO DISABLE", rows); err != nil {
		return err
	}
	for _, line := range needed {
		fmt.Fprintln(s.out, line)
	}
	return nil
}

func encryptionAssign(s *session) *cobra.Command {
	var nowait bool
	c := s.on("assign WORKSPACE KEY-IDENTIFIER", "Put a workspace under a customer's key, by its versionless identifier", cobra.ExactArgs(2),
		func(ctx context.Context, f *sdk.Fabric, id string, args []string) error {
			if err := f.Call(ctx, "POST", "/workspaces/"+id+"/encryption/assign", map[string]string{"keyIdentifier": args[1]}, nil); err != nil {
				return err
			}
			return s.wait(ctx, f, id, nowait)
		})
	c.Flags().BoolVar(&nowait, "no-wait", false, "do not wait until every item is done")
	return c
}

func encryptionReset(s *session) *cobra.Command {
	var nowait bool
	c := s.on("reset WORKSPACE", "Put a workspace back under platform-managed keys", cobra.ExactArgs(1),
		func(ctx context.Context, f *sdk.Fabric, id string, args []string) error {
			if err := s.confirm("Workspace "+args[0]+" is no longer under its customer's key: that key can no longer cut it off.", args[0]); err != nil {
				return err
			}
			if err := f.Call(ctx, "POST", "/workspaces/"+id+"/encryption/reset", nil, nil); err != nil {
				return err
			}
			return s.wait(ctx, f, id, nowait)
		})
	c.Flags().BoolVar(&nowait, "no-wait", false, "do not wait until every item is done")
	s.confirmFlag(c)
	return c
}

// wait waits until no item is in progress, with a progress bar where people look.
func (s *session) wait(ctx context.Context, f *sdk.Fabric, id string, nowait bool) error {
	var bar *progressbar.ProgressBar
	if file, ok := s.errOut.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		bar = progressbar.NewOptions64(1, progressbar.OptionSetWriter(file), progressbar.OptionSetDescription("In progress"),
			progressbar.OptionShowBytes(true), progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish())
		defer bar.Finish()
	}
	for {
		st, err := f.Encryption(ctx, id)
		if err != nil {
			return err
		}
		if nowait || !inProgress(st) {
			return s.showStatus(st)
		}
		if p := st.Progress; bar != nil && p != nil && p.TotalBytes > 0 {
			bar.ChangeMax64(p.TotalBytes)
			bar.Set64(p.Bytes)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}
