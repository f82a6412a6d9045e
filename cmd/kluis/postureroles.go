package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// A postureRole is who has which of governance's roles.
type postureRole struct {
	ID            string    `json:"id,omitempty"`
	Principal     string    `json:"principalId"`
	PrincipalType string    `json:"principalType"`
	Role          string    `json:"role"`
	Created       time.Time `json:"createdAt,omitzero"`
	CreatedBy     string    `json:"createdBy,omitempty"`
}

func postureRoles() *cobra.Command {
	c := &cobra.Command{
		Use:   "roles",
		Short: "See, give and take the roles of those who watch",
		Long: `Governance has roles of its own: a Governance Reader reads what was found and takes
evidence packs, a Governance Officer also has scans run, acknowledges alerts and gives
these roles to others. Nobody gives one to himself, and the last officer's stays.`,
	}
	c.AddCommand(postureRolesList(), postureRolesGive(), postureRolesTake())
	return c
}

func postureRolesList() *cobra.Command {
	var s serverFlags
	var output string
	c := &cobra.Command{
		Use:   "list",
		Short: "List who has which role",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var page struct {
				Value []postureRole `json:"value"`
			}
			if err := s.call(c.Context(), "GET", "/roleAssignments", nil, nil, &page); err != nil {
				return err
			}
			if output == "json" {
				return printJSON(c.OutOrStdout(), page.Value)
			}
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "ID\tROLE\tPRINCIPAL\tTYPE\tSINCE\tBY")
			for _, r := range page.Value {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.Role, r.Principal, r.PrincipalType, r.Created.Format(time.DateOnly), orNone(r.CreatedBy))
			}
			return t.Flush()
		},
	}
	s.declare(c, "admin")
	addOutput(c, &output)
	return c
}

func postureRolesGive() *cobra.Command {
	var s serverFlags
	var role, kind, output string
	c := &cobra.Command{
		Use:   "give OBJECT-ID",
		Short: "Give a role to somebody else",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var given postureRole
			in := postureRole{Principal: args[0], PrincipalType: kind, Role: role}
			if err := s.call(c.Context(), "POST", "/roleAssignments", nil, in, &given); err != nil {
				return err
			}
			if output == "json" {
				return printJSON(c.OutOrStdout(), given)
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s is %s: %s\n", given.Principal, given.Role, given.ID)
			return err
		},
	}
	s.declare(c, "admin")
	c.Flags().StringVar(&role, "role", "Governance Reader", "the `ROLE`: Governance Reader or Governance Officer")
	c.Flags().StringVar(&kind, "type", "User", "what the principal is: User, Group or ServicePrincipal")
	addOutput(c, &output)
	return c
}

func postureRolesTake() *cobra.Command {
	var s serverFlags
	c := &cobra.Command{
		Use:   "take ID",
		Short: "Take a role away, by the assignment's id",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return s.call(c.Context(), "DELETE", "/roleAssignments/"+args[0], nil, nil, nil)
		},
	}
	s.declare(c, "admin")
	return c
}
