package cli

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/internal/sdk"
)

func workspaceCommand() *cobra.Command {
	return group("workspace", "Make and manage workspaces, as an engineer", "engineer",
		workspaceCreate, workspaceList, workspaceShow, workspaceDelete)
}

func itemCommand() *cobra.Command {
	return group("item", "Make and manage a workspace's items, as an engineer", "engineer",
		itemCreate, itemList, itemDelete)
}

func text(m map[string]any, name string) string {
	s, _ := m[name].(string)
	return s
}

// find returns the one of a list that has the name or id.
func find(all []map[string]any, nameOrID, what string) (map[string]any, error) {
	for _, m := range all {
		if text(m, "id") == nameOrID || strings.EqualFold(text(m, "displayName"), nameOrID) {
			return m, nil
		}
	}
	return nil, fmt.Errorf("there is no %s %q that you may see", what, nameOrID)
}

// workspaceID finds a workspace by its name or id.
func workspaceID(ctx context.Context, f *sdk.Fabric, nameOrID string) (string, error) {
	all, err := f.List(ctx, "/workspaces")
	if err != nil {
		return "", err
	}
	w, err := find(all, nameOrID, "workspace")
	return text(w, "id"), err
}

// on makes a command on one workspace.
func (s *session) on(use, short string, args cobra.PositionalArgs, run func(ctx context.Context, f *sdk.Fabric, id string, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  args,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := s.engineer()
			if err != nil {
				return err
			}
			id, err := workspaceID(cmd.Context(), e.Fabric, args[0])
			if err != nil {
				return err
			}
			return run(cmd.Context(), e.Fabric, id, args)
		},
	}
}

func workspaceCreate(s *session) *cobra.Command {
	var description string
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a workspace",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := s.engineer()
			if err != nil {
				return err
			}
			var made map[string]any
			body := map[string]string{"displayName": args[0]}
			if description != "" {
				body["description"] = description
			}
			if err := e.Fabric.Call(cmd.Context(), "POST", "/workspaces", body, &made); err != nil {
				return err
			}
			return s.show(made, "NAME,ID", [][]string{{text(made, "displayName"), text(made, "id")}})
		},
	}
	c.Flags().StringVar(&description, "description", "", "what the workspace is for")
	return c
}

func workspaceList(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the workspaces in which you have a role",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := s.engineer()
			if err != nil {
				return err
			}
			all, err := e.Fabric.List(cmd.Context(), "/workspaces")
			if err != nil {
				return err
			}
			var rows [][]string
			for _, w := range all {
				rows = append(rows, []string{text(w, "displayName"), text(w, "id")})
			}
			return s.show(all, "NAME,ID", rows)
		},
	}
}

func workspaceShow(s *session) *cobra.Command {
	return s.on("show WORKSPACE", "Show a workspace, by its name or id", cobra.ExactArgs(1), func(ctx context.Context, f *sdk.Fabric, id string, _ []string) error {
		var w map[string]any
		if err := f.Call(ctx, "GET", "/workspaces/"+id, nil, &w); err != nil {
			return err
		}
		return s.show(w, "NAME,ID,DESCRIPTION", [][]string{{text(w, "displayName"), text(w, "id"), text(w, "description")}})
	})
}

func workspaceDelete(s *session) *cobra.Command {
	var certificate string
	c := s.on("delete WORKSPACE", "Delete a workspace and shred all in it", cobra.ExactArgs(1), func(ctx context.Context, f *sdk.Fabric, id string, args []string) error {
		if err := s.confirm("All data in workspace "+args[0]+" is lost for good.", args[0]); err != nil {
			return err
		}
		if err := f.Call(ctx, "DELETE", "/workspaces/"+id, nil, nil); err != nil {
			return err
		}
		if err := saveCertificate(ctx, f, id, certificate); err != nil {
			return err
		}
		return s.done("Workspace %s is deleted.", args[0])
	})
	certificateFlag(c, &certificate)
	s.confirmFlag(c)
	return c
}

func itemCreate(s *session) *cobra.Command {
	var typ string
	c := s.on("create WORKSPACE NAME", "Make an item in a workspace", cobra.ExactArgs(2), func(ctx context.Context, f *sdk.Fabric, id string, args []string) error {
		var made map[string]any
		if err := f.Call(ctx, "POST", "/workspaces/"+id+"/items", map[string]string{"displayName": args[1], "type": typ}, &made); err != nil {
			return err
		}
		return s.show(made, "NAME,TYPE,ID", [][]string{{text(made, "displayName"), text(made, "type"), text(made, "id")}})
	})
	c.Flags().StringVar(&typ, "type", "Lakehouse", "the item's type")
	return c
}

func itemList(s *session) *cobra.Command {
	return s.on("list WORKSPACE", "List a workspace's items", cobra.ExactArgs(1), func(ctx context.Context, f *sdk.Fabric, id string, _ []string) error {
		all, err := f.List(ctx, "/workspaces/"+id+"/items")
		if err != nil {
			return err
		}
		var rows [][]string
		for _, i := range all {
			rows = append(rows, []string{text(i, "displayName"), text(i, "type"), text(i, "id")})
		}
		return s.show(all, "NAME,TYPE,ID", rows)
	})
}

// certificateFlag declares --certificate, of commands that shred.
func certificateFlag(c *cobra.Command, file *string) {
	c.Flags().StringVar(file, "certificate", "", "write the certificate of what was shredded to this `FILE`")
}

// saveCertificate writes the certificate that an item or a workspace was shredded.
func saveCertificate(ctx context.Context, f *sdk.Fabric, id, file string) error {
	if file == "" {
		return nil
	}
	var cert map[string]any
	if err := f.Call(ctx, "GET", "/admin/encryption/shreddings/"+url.PathEscape(id), nil, &cert); err != nil {
		return err
	}
	return writeJSON(file, cert)
}

func itemDelete(s *session) *cobra.Command {
	var hard bool
	var certificate string
	c := s.on("delete WORKSPACE ITEM", "Delete an item: it can be recovered for seven days, unless it is shredded", cobra.ExactArgs(2), func(ctx context.Context, f *sdk.Fabric, id string, args []string) error {
		all, err := f.List(ctx, "/workspaces/"+id+"/items")
		if err != nil {
			return err
		}
		item, err := find(all, args[1], "item")
		if err != nil {
			return err
		}
		if certificate != "" && !hard {
			return usage("only what is shredded is certified: say --shred too")
		}
		path := "/workspaces/" + id + "/items/" + url.PathEscape(text(item, "id"))
		if hard {
			if err := s.confirm("All data of item "+args[1]+" is lost for good.", args[1]); err != nil {
				return err
			}
			path += "?hardDelete=true"
		}
		if err := f.Call(ctx, "DELETE", path, nil, nil); err != nil {
			return err
		}
		if err := saveCertificate(ctx, f, text(item, "id"), certificate); err != nil {
			return err
		}
		return s.done("Item %s is deleted.", args[1])
	})
	certificateFlag(c, &certificate)
	c.Flags().BoolVar(&hard, "shred", false, "overwrite its keys at once: nothing of it ever opens again")
	s.confirmFlag(c)
	return c
}
