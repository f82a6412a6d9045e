package cli

import (
	"context"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

func emergencyCommand() *cobra.Command {
	return group("emergency", "Get into a workspace when nobody with a role there can: two people, for a few hours", "admin",
		emergencyRequest, emergencyApprove, emergencyReject, emergencyList)
}

func (s *session) showEmergencies(v any, all ...map[string]any) error {
	var rows [][]string
	for _, e := range all {
		rows = append(rows, []string{text(e, "id"), text(e, "workspaceId"), text(e, "role"), text(e, "state"), text(e, "requestedBy"), text(e, "accessUntilDateTime")})
	}
	return s.show(v, "ID,WORKSPACE,ROLE,STATE,REQUESTED BY,ACCESS UNTIL", rows)
}

func emergencyRequest(s *session) *cobra.Command {
	var role string
	c := &cobra.Command{
		Use:   "request WORKSPACE-ID",
		Short: "Ask for a role in a workspace, for yourself",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.emergency(cmd.Context(), "", map[string]string{"workspaceId": args[0], "role": role})
		},
	}
	c.Flags().StringVar(&role, "role", "Contributor", "Admin or Contributor")
	return c
}

// emergency makes one call about one request, and shows what has become of it.
func (s *session) emergency(ctx context.Context, path string, body any) error {
	e, err := s.engineer()
	if err != nil {
		return err
	}
	var made map[string]any
	if err := e.Fabric.Call(ctx, "POST", "/admin/emergencyAccess"+path, body, &made); err != nil {
		return err
	}
	return s.showEmergencies(made, made)
}

func emergencyApprove(s *session) *cobra.Command {
	var lasting time.Duration
	c := &cobra.Command{
		Use:   "approve ID",
		Short: "Agree to another's request: the access begins at once, and ends by itself",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if lasting%time.Minute != 0 {
				return usage("--for takes whole minutes, not %s", lasting)
			}
			return s.emergency(cmd.Context(), "/"+url.PathEscape(args[0])+"/approve", map[string]int64{"minutes": int64(lasting / time.Minute)})
		},
	}
	c.Flags().DurationVar(&lasting, "for", time.Hour, "how long the access lasts, 4h at most")
	return c
}

func emergencyReject(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "reject ID",
		Short: "Reject another's request, or withdraw your own",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.emergency(cmd.Context(), "/"+url.PathEscape(args[0])+"/reject", nil)
		},
	}
}

func emergencyList(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List requests, and the access that there is now",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := s.engineer()
			if err != nil {
				return err
			}
			all, err := e.Fabric.List(cmd.Context(), "/admin/emergencyAccess")
			if err != nil {
				return err
			}
			return s.showEmergencies(all, all...)
		},
	}
}
