package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/durable"
	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/objstore/local"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/root"
	"github.com/kluis-io/kluis/workspace"
)

func recoverCommand() *cobra.Command {
	var r recovery
	var at, shares, output string
	cmd := &cobra.Command{
		Use:   "recover [WORKSPACE[/PATH]]",
		Short: "Read files out of a backup, without a server",
		Long: `Read files out of a backup, without a server and without restoring it: list the
workspaces, or the files of one, or with --to write them into a folder.

It takes the platform's root, by what seals it or with --shares by recovery shares, and
for a workspace under a customer's key a vault that says yes: the one in the backup, whose
root has to open too, or else the live one that the key's identifier names. The vault in
the backup is served on the loopback address that its keys' identifiers name (--listen,
--domain), for that time and to this command alone.

The backup is opened in a temporary folder, beside it or in --work, which holds no
content and goes when the command ends. Nothing is recorded but by a live vault.

  kluis recover --from FOLDER
  kluis recover --from FOLDER risk/lake.Lakehouse/Files --to recovered --shares all.shares`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if r.config, err = readConfig(cmd); err != nil {
				return err
			}
			moment, err := timeFlag("at", at)
			if err != nil {
				return err
			}
			if r.from, err = pointAt(r.from, moment); err != nil {
				return err
			}
			if len(args) > 0 {
				r.workspace, r.path, _ = strings.Cut(strings.Trim(args[0], "/"), "/")
			} else if r.to != "" {
				return usageError{errors.New("--to takes a workspace to be named")}
			}
			if shares != "" {
				in, err := os.Open(shares)
				if err != nil {
					return err
				}
				defer in.Close()
				if r.shares, err = readShares(in); err != nil {
					return fmt.Errorf("%s: %w", shares, err)
				}
			}
			found, err := r.run(cmd.Context())
			if err != nil {
				return err
			}
			return r.print(cmd.OutOrStdout(), output, found)
		},
	}
	hideServerFlags(cmd)
	for _, name := range []string{"listen", "vaults", "public-port"} {
		cmd.Flags().Lookup(name).Hidden = false
	}
	for _, name := range []string{"data", "witness", "objects", "objects-credential", "database", "metrics"} {
		cmd.Flags().MarkHidden(name)
	}
	f := cmd.Flags()
	f.StringVar(&r.from, "from", "", "the backup's `FILE`, or the folder of backups")
	f.StringVar(&at, "at", "", "the newest backup in the folder at this `TIME` or before (default: of all)")
	f.StringVar(&r.to, "to", "", "write the files into this new `FOLDER`")
	f.StringVar(&shares, "shares", "", "open the roots by the recovery shares in `FILE`, one a line, of all parties together")
	f.StringVar(&r.work, "work", "", "make the temporary folder in this `FOLDER` (default: where the backup is)")
	cmd.MarkFlagRequired("from")
	addOutput(cmd, &output)
	return cmd
}

// A recovery reads a backup.
type recovery struct {
	config          Config
	from, work, to  string
	workspace, path string
	shares          root.Shares
}

// A recovered is a workspace, or a file of one.
type recovered struct {
	Workspace string    `json:"workspace"`
	ID        string    `json:"id,omitempty"`   // of the workspace, where no file is listed
	Path      string    `json:"path,omitempty"` // in the workspace
	Size      int64     `json:"size"`
	Modified  time.Time `json:"modified,omitzero"`
}

// run opens the backup as a data directory of its own, and reads it as its platform would.
func (r *recovery) run(ctx context.Context) (found []recovered, err error) {
	if r.work == "" {
		r.work = filepath.Dir(r.from)
	}
	dir, err := os.MkdirTemp(r.work, ".recover-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := r.unpack(ctx, dir); err != nil {
		return nil, err
	}
	s := &server{config: r.config}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.openData(ctx); err != nil {
		return nil, err
	}
	if s.objects, err = local.Open(filepath.Join(filepath.Dir(r.from), extentsDir)); err != nil {
		return nil, err
	}
	if err := s.serveItself(ctx); err != nil {
		return nil, err
	}
	var all []workspace.Workspace
	for _, tenant := range append(s.identity.Tenants, s.identity.Tenant) {
		of, err := s.workspaces.WorkspacesOf(ctx, tenant)
		if err != nil {
			return nil, err
		}
		all = append(all, of...)
	}
	if r.workspace == "" {
		for _, w := range all {
			found = append(found, recovered{Workspace: w.DisplayName, ID: string(w.ID)})
		}
		return found, nil
	}
	all = slices.DeleteFunc(all, func(w workspace.Workspace) bool { return w.DisplayName != r.workspace && string(w.ID) != r.workspace })
	if len(all) != 1 {
		return nil, fmt.Errorf("%d workspaces of the backup have this name or id", len(all))
	}
	return r.read(ctx, s, all[0])
}

// unpack makes the folder a data directory that this command can open.
func (r *recovery) unpack(ctx context.Context, dir string) error {
	in, err := os.Open(r.from)
	if err != nil {
		return err
	}
	defer in.Close()
	m, err := unpack(in, dir)
	if err != nil {
		return fmt.Errorf("%s: %w", r.from, err)
	}
	for _, party := range []string{platformDir, loginDir} {
		if _, ok := m.Parties[party]; !ok {
			return fmt.Errorf("%s holds no %s: it takes a backup that was made with --into", r.from, party)
		}
	}
	c := &r.config
	c.Data, c.Witness, c.Objects, c.Databases, c.Roles = dir, "", "", nil, []string{rolePlatform}
	if _, ok := m.Parties[vaultDir]; ok {
		c.Roles = append(c.Roles, roleVault)
	}
	i, err := instanceOf(dir)
	if err != nil {
		return err
	}
	if c.Dev = i.Dev; c.Dev { // what clients of such a server are told is no part of a backup
		if err := writeJSON(filepath.Join(dir, bootstrapFile), struct{}{}); err != nil {
			return err
		}
	}
	if err := r.assemble(dir, m); err != nil {
		return err
	}
	// The copy's own witnesses: it is older than what others have seen, and meant to be.
	told, err := tellWitnesses(ctx, io.Discard, *c, m)
	if err == nil && !told {
		err = fault.New(fault.Denied, "A root in the backup does not open.").
			WithMend("Give what seals the roots, as to 'kluis serve', or recovery shares of each party with --shares.")
	}
	return err
}

// assemble puts the roots of which there are shares together, and seals them in the copy
// by a passphrase that nobody keeps.
func (r *recovery) assemble(dir string, m manifest) error {
	if len(r.shares) == 0 {
		return nil
	}
	passphrase := []byte(rand.Text())
	defer clear(passphrase)
	r.config.PassphraseFile = filepath.Join(dir, "passphrase")
	if err := durable.WriteFile(r.config.PassphraseFile, passphrase, 0o600); err != nil {
		return err
	}
	for party, p := range m.Parties {
		of := slices.DeleteFunc(slices.Clone(r.shares), func(s root.Share) bool { return s.RootID() != p.RootID })
		if !rooted(party) || len(of) == 0 {
			continue
		}
		sealed := filepath.Join(dir, party, rootFile)
		assembled, err := root.Assemble(sealed, m.Instance, of)
		if err != nil {
			return fmt.Errorf("the %s's shares: %w", party, err)
		}
		err = assembled.Reseal(sealed, root.Passphrase(passphrase))
		if err := errors.Join(err, assembled.Close()); err != nil {
			return err
		}
	}
	return nil
}

// read lists the files of a workspace below the path, and writes them if it is said where.
// In the copy, which goes, somebody new has the right to.
func (r *recovery) read(ctx context.Context, s *server, w workspace.Workspace) (found []recovered, err error) {
	caller := identity.Caller{Tenant: w.Tenant, Principal: identity.PrincipalID(uuid.NewString()), Type: identity.ServicePrincipal}
	right := assignments(caller.Principal, encryption.WorkspacePath(w.ID), rbac.WorkspaceContributor)
	if err := s.workspaces.Provision(ctx, w.Tenant, right...); err != nil {
		return nil, err
	}
	var into *os.Root
	if r.to != "" {
		if err := os.Mkdir(r.to, 0o700); err != nil {
			return nil, err
		}
		if into, err = os.OpenRoot(r.to); err != nil {
			return nil, err
		}
		defer into.Close()
	}
	o := lake.ListOptions{Recursive: true}
	container := lake.Path{Container: w.DisplayName}
	for {
		page, err := s.lake.List(ctx, caller, container, o)
		if err != nil {
			return found, err
		}
		for _, p := range page.Entries {
			if p.Kind != lake.File || !below(p.Name, r.path) {
				continue
			}
			found = append(found, recovered{Workspace: w.DisplayName, Path: p.Name, Size: p.Size, Modified: p.Modified})
			if into == nil {
				continue
			}
			file := lake.Path{Container: container.Container, Segments: strings.Split(p.Name, "/")}
			if err := extract(ctx, s.lake, caller, file, into); err != nil {
				return found, fmt.Errorf("after %d files: %w", len(found)-1, err)
			}
		}
		if o.Continuation = page.Continuation; o.Continuation == "" {
			return found, nil
		}
	}
}

// below reports whether a path is another one, or lies in it.
func below(name, dir string) bool {
	rest, ok := strings.CutPrefix(name, dir)
	return ok && (dir == "" || rest == "" || rest[0] == '/')
}

// extract writes a file below a folder, under its path in the workspace. Whatever the
// path says, it stays in the folder.
func extract(ctx context.Context, l *lake.Lake, caller identity.Caller, p lake.Path, into *os.Root) (err error) {
	content, err := l.Open(ctx, caller, p, lake.Conditions{}, lake.Range{})
	if err != nil {
		return err
	}
	defer content.Close()
	name := filepath.FromSlash(p.String())
	if err := into.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	out, err := into.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = content.WriteTo(out)
	return err
}

func (r *recovery) print(w io.Writer, output string, found []recovered) error {
	if output == "json" {
		return printJSON(w, found)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var bytes int64
	switch r.workspace {
	case "":
		fmt.Fprintln(t, "WORKSPACE\tID")
	default:
		fmt.Fprintln(t, "SIZE\tMODIFIED\tPATH")
	}
	for _, f := range found {
		if f.Path == "" {
			fmt.Fprintf(t, "%s\t%s\n", f.Workspace, f.ID)
			continue
		}
		fmt.Fprintf(t, "%d\t%s\t%s\n", f.Size, when(f.Modified), f.Path)
		bytes += f.Size
	}
	if err := t.Flush(); err != nil || r.to == "" {
		return err
	}
	_, err := fmt.Fprintf(w, "%d files of %d bytes are in %s\n", len(found), bytes, r.to)
	return err
}
