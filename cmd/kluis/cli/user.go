package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/internal/sdk"
)

// graphScope is the scope of tokens for the directory.
const graphScope = "https://graph.microsoft.com/.default"

// directoryUser is Graph's view of a user.
type directoryUser struct {
	ID       string `json:"id"`
	Name     string `json:"userPrincipalName"`
	Display  string `json:"displayName"`
	Enabled  bool   `json:"accountEnabled"`
	Password string `json:"password,omitempty"` // that was just made
}

func userCommand() *cobra.Command {
	return group("user", "The administrator's work: people who sign in to the portal with a name and a password", "admin",
		userCreate, userList, userPassword, userSwitch("disable", false), userSwitch("enable", true))
}

// onUser makes a command about one user.
func onUser(s *session, use, short string, run func(ctx context.Context, o *sdk.Officer, name string) error) *cobra.Command {
	return &cobra.Command{Use: use + " NAME", Short: short, Args: cobra.ExactArgs(1),
		RunE: s.asOfficer(func(ctx context.Context, o *sdk.Officer, args []string) error { return run(ctx, o, args[0]) })}
}

func users(o *sdk.Officer, path string) string {
	return o.Target().Endpoints["graph"] + "/v1.0/users" + path
}

// findUser returns the user of a name.
func findUser(ctx context.Context, o *sdk.Officer, name string) (directoryUser, error) {
	var page struct {
		Value []directoryUser `json:"value"`
	}
	filter := "userPrincipalName eq '" + strings.ReplaceAll(strings.ToLower(name), "'", "''") + "'"
	if err := o.Call(ctx, graphScope, http.MethodGet, users(o, "?$filter="+url.QueryEscape(filter)), nil, &page); err != nil {
		return directoryUser{}, err
	}
	if len(page.Value) != 1 {
		return directoryUser{}, fmt.Errorf("the directory has no user %q; 'kluis user list' shows those that it has", name)
	}
	return page.Value[0], nil
}

// newPassword reads a password from a file, or makes one of 130 random bits.
func newPassword(file string) (password string, made bool, err error) {
	if file == "" {
		return rand.Text(), true, nil
	}
	text, err := os.ReadFile(file)
	return strings.TrimRight(string(text), "\r\n"), false, err
}

func passwordFlag(c *cobra.Command, file *string) {
	c.Flags().StringVar(file, "password-file", "", "read the password from `FILE`; without it one is made, and shown once")
}

func userCreate(s *session) *cobra.Command {
	var display, file string
	c := onUser(s, "create", "Make a user, who has no right until he is given one", func(ctx context.Context, o *sdk.Officer, name string) error {
		password, made, err := newPassword(file)
		if err != nil {
			return err
		}
		var u directoryUser
		body := map[string]any{"userPrincipalName": name, "displayName": display, "passwordProfile": map[string]string{"password": password}}
		if err := o.Call(ctx, graphScope, http.MethodPost, users(o, ""), body, &u); err != nil {
			return err
		}
		if made {
			u.Password = password
		}
		return s.showUsers(u)
	})
	c.Flags().StringVar(&display, "display", "", "the `NAME` that people see; the one to sign in with if empty")
	passwordFlag(c, &file)
	return c
}

func userPassword(s *session) *cobra.Command {
	var file string
	c := onUser(s, "password", "Give a user another password, and sign him out everywhere", func(ctx context.Context, o *sdk.Officer, name string) error {
		u, err := findUser(ctx, o, name)
		if err != nil {
			return err
		}
		password, made, err := newPassword(file)
		if err != nil {
			return err
		}
		body := map[string]any{"passwordProfile": map[string]string{"password": password}}
		if err := o.Call(ctx, graphScope, http.MethodPatch, users(o, "/"+u.ID), body, nil); err != nil {
			return err
		}
		if made {
			u.Password = password
		}
		return s.showUsers(u)
	})
	passwordFlag(c, &file)
	return c
}

func userSwitch(verb string, on bool) func(*session) *cobra.Command {
	short := "Let a user sign in again"
	if !on {
		short = "Keep a user from signing in, and end his tokens and sessions"
	}
	return func(s *session) *cobra.Command {
		return onUser(s, verb, short, func(ctx context.Context, o *sdk.Officer, name string) error {
			u, err := findUser(ctx, o, name)
			if err != nil {
				return err
			}
			if err := o.Call(ctx, graphScope, http.MethodPatch, users(o, "/"+u.ID), map[string]bool{"accountEnabled": on}, nil); err != nil {
				return err
			}
			u.Enabled = on
			return s.showUsers(u)
		})
	}
}

func userList(s *session) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the users", Args: cobra.NoArgs,
		RunE: s.asOfficer(func(ctx context.Context, o *sdk.Officer, _ []string) error {
			var page struct {
				Value []directoryUser `json:"value"`
			}
			if err := o.Call(ctx, graphScope, http.MethodGet, users(o, ""), nil, &page); err != nil {
				return err
			}
			return s.showUsers(page.Value...)
		})}
}

func (s *session) showUsers(all ...directoryUser) error {
	rows, header := [][]string{}, "NAME,DISPLAY NAME,ENABLED,OBJECT ID"
	for _, u := range all {
		row := []string{u.Name, u.Display, yes(u.Enabled), u.ID}
		if u.Password != "" {
			header = "NAME,DISPLAY NAME,ENABLED,OBJECT ID,PASSWORD"
			row = append(row, u.Password)
		}
		rows = append(rows, row)
	}
	return s.show(all, header, rows)
}
