package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/fabric"
)

// A labelled is what became of a change of a label.
type labelled struct {
	posture.LabelChange
	Result string `json:"result"` // "would set", "set", "no such label", or the refusal
}

func postureLabels() *cobra.Command {
	var s serverFlags
	var policyFile, itemsAs, output string
	var apply, create, items bool
	c := &cobra.Command{
		Use:   "labels --policy FILE",
		Short: "Give the platform's workspaces the labels that the classification names",
		Long: `Hold the workspaces of the profile's server against the classification's rules, and
show whose sensitivity label is another than the first rule that reaches it names.
With --apply the labels are set, and the platform's audit log has each.

A rule without label leaves a workspace's alone. A label that requires a customer's
key cannot be set on a workspace with items that is under none: it is refused, and
the rest goes on. The exit code is 3 if a label could not be set.

With --items the items of these workspaces are looked at too, as a principal who may
write them: one without a label, or with one that requires no customer's key where its
workspace's does, takes its workspace's. Any other label of its own it keeps.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if create && !apply {
				return usageError{errors.New("--create goes with --apply")}
			}
			flags := scanFlags{policies: []string{policyFile}, server: s}
			if !items {
				itemsAs = ""
			}
			all, err := flags.label(c.Context(), apply, create, itemsAs)
			if err != nil {
				return err
			}
			if output == "json" {
				if err := printJSON(c.OutOrStdout(), all); err != nil {
					return err
				}
			} else {
				t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "WORKSPACE\tID\tITEM\tRULE\tLABEL NOW\tWANTED\tRESULT")
				for _, l := range all {
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Name, l.Workspace, orNone(l.ItemName), l.Rule, orNone(l.From), l.To, l.Result)
				}
				if err := t.Flush(); err != nil {
					return err
				}
			}
			for _, l := range all {
				if apply && l.Result != "set" {
					return errNotHolding
				}
			}
			return nil
		},
	}
	s.declare(c, "admin")
	f := c.Flags()
	f.StringVar(&policyFile, "policy", "", "the classification policy, a YAML `FILE`")
	f.BoolVar(&apply, "apply", false, "set the labels; without it they are only shown")
	f.BoolVar(&create, "create", false, "make labels that are not there; one whose rules all require a customer's key requires it too")
	f.BoolVar(&items, "items", false, "label the workspaces' items too")
	f.StringVar(&itemsAs, "items-as", "engineer", "the `PRINCIPAL` of the profile who may write the items")
	c.MarkFlagRequired("policy")
	addOutput(c, &output)
	return c
}

// label shows what labels are to be set, and sets them with apply: those of workspaces,
// and where itemsAs names who writes them, of their items.
func (s *scanFlags) label(ctx context.Context, apply, create bool, itemsAs string) ([]labelled, error) {
	text, err := s.policyText()
	if err != nil {
		return nil, err
	}
	policy, err := posture.ParsePolicy(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.policies[0], err)
	}
	t, err := s.server.target()
	if err != nil {
		return nil, err
	}
	clients, err := sdk.New(t)
	if err != nil {
		return nil, err
	}
	by, err := clients.EngineerAs(s.server.as)
	if err != nil {
		return nil, err
	}
	cred, err := clients.Credential(s.server.as)
	if err != nil {
		return nil, err
	}
	inv := &posture.Inventory{}
	if err := fabric.Read(ctx, fabric.Config{Endpoint: t.Endpoints["fabric"], Credential: cred, Client: clients.Options()}, inv); err != nil {
		return nil, err
	}
	inv.Link()
	there, err := by.Fabric.List(ctx, "/labels")
	if err != nil {
		return nil, err
	}
	ids, strict := map[string]string{}, map[string]bool{} // ids by the name in lower case; which require a key
	for _, l := range there {
		name, _ := l["displayName"].(string)
		id, _ := l["id"].(string)
		ids[strings.ToLower(name)] = id
		strict[strings.ToLower(id)], _ = l["requiresCustomerManagedKey"].(bool)
	}
	all := []labelled{}
	scan := posture.Judge(inv, policy, nil, time.Now())
	for _, change := range scan.LabelChanges(ids) {
		l := labelled{change, "would set"}
		name := strings.ToLower(l.To)
		if create && ids[name] == "" {
			var made struct {
				ID string `json:"id"`
			}
			body := map[string]any{"displayName": l.To, "requiresCustomerManagedKey": policy.LabelRequires(l.To)}
			if err := by.Fabric.Call(ctx, "POST", "/admin/labels", body, &made); err != nil {
				return all, fmt.Errorf("making the label %s: %w", l.To, err)
			}
			ids[name], strict[strings.ToLower(made.ID)] = made.ID, policy.LabelRequires(l.To)
		}
		switch {
		case ids[name] == "":
			l.Result = "no such label: make it, or let --create do so"
		case apply:
			l.Result = "set"
			if err := by.Fabric.Call(ctx, "POST", "/workspaces/"+l.Workspace+"/setLabel", map[string]string{"labelId": ids[name]}, nil); err != nil {
				l.Result = err.Error()
			}
		}
		all = append(all, l)
	}
	if itemsAs == "" {
		return all, nil
	}
	writer, err := clients.EngineerAs(itemsAs)
	if err != nil {
		return all, err
	}
	for _, wish := range scan.LabelWishes() {
		if id := ids[strings.ToLower(wish.Label)]; id != "" {
			all = append(all, labelItems(ctx, writer.Fabric, wish, id, strict, apply)...)
		}
	}
	return all, nil
}

// labelItems gives the items of a workspace its label, where they take it.
func labelItems(ctx context.Context, f *sdk.Fabric, wish posture.LabelWish, label string, strict map[string]bool, apply bool) (all []labelled) {
	l := labelled{posture.LabelChange{Workspace: wish.Workspace, Name: wish.Name, Rule: wish.Rule, To: wish.Label}, "would set"}
	items, err := f.List(ctx, "/workspaces/"+wish.Workspace+"/items")
	if err != nil {
		l.ItemName, l.Result = "(all)", err.Error()
		return []labelled{l}
	}
	for _, i := range items {
		l.Item, _ = i["id"].(string)
		l.ItemName, _ = i["displayName"].(string)
		own, _ := i["sensitivityLabel"].(map[string]any)
		l.From, _ = own["id"].(string)
		if !posture.ItemTakes(l.From, label, strict) {
			continue
		}
		if apply {
			l.Result = "set"
			if err := f.Call(ctx, "POST", "/workspaces/"+wish.Workspace+"/items/"+l.Item+"/setLabel", map[string]string{"labelId": label}, nil); err != nil {
				l.Result = err.Error()
			}
		}
		all = append(all, l)
	}
	return all
}
