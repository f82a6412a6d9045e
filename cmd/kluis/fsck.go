package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/check"
	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/posture/history"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/hsm"
	"github.com/kluis-io/kluis/vault/softkey"
	"github.com/kluis-io/kluis/workspace"
)

func fsckCommand() *cobra.Command {
	var f fsck
	var output string
	cmd := &cobra.Command{
		Use:   "fsck",
		Short: "Check everything in a data directory, without a running server",
		Long: `Check everything in a data directory, without a running server.

First, without any vault: the databases, the audit logs, what the roots seal, and
whether every row has what it names. Then everything that is sealed is opened and
compared: keys, names, manifests, and each byte of content. For that the vault in
the directory is served on the loopback address that its keys' identifiers name,
for the time of the check, to nobody's use but the check's. What lies under a key
that its vault refuses is said to be not checked, and is no damage; the same is said of
private keys that lie in an HSM, which is not asked.

A directory that was not made by --dev needs the configuration that its server has.
Nothing is mended, and nothing changes but the audit logs, which record the use of
keys. The exit code is 3 if something is found.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if f.config, err = readConfig(cmd); err != nil {
				return err
			}
			if err := f.run(cmd.Context()); err != nil {
				return err
			}
			return f.print(cmd.OutOrStdout(), output)
		},
	}
	addFlags(cmd.Flags())
	cmd.Flags().BoolVar(&f.structureOnly, "structure-only", false, "open nothing that takes a vault: databases, logs, seals and structure alone")
	cmd.Flags().BoolVar(&f.quick, "quick", false, "do not read the content, but for its first bytes")
	addOutput(cmd, &output)
	return cmd
}

// A fsck is the check of one data directory.
type fsck struct {
	config        Config // of a server of the directory
	structureOnly bool
	quick         bool
	parties       []string // all if nil

	instance instance
	report   check.Report
}

// run checks the directory. What is wrong with it is in the report; the error
// says why it could not be checked.
func (f *fsck) run(ctx context.Context) error {
	err := f.read(instanceFile, &f.instance)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is not a data directory: give one with --data", f.config.Data)
	}
	if err == nil {
		err = f.configure()
	}
	if err != nil {
		return err
	}
	lock, err := lockDir(f.config.Data)
	if err != nil {
		return err
	}
	defer lock.Close()
	for _, name := range allParties {
		if !f.has(name) || f.parties != nil && !slices.Contains(f.parties, name) {
			continue
		}
		f.report.Party = name
		if err := f.went("audit entry", f.logged(ctx, name)); err != nil {
			return err
		}
		if err := f.went("party", f.party(ctx, name)); err != nil {
			return err
		}
	}
	if f.structureOnly || !f.has(platformDir) {
		return nil
	}
	return f.content(ctx, lock)
}

func (f *fsck) has(party string) bool {
	return hasDatabase(filepath.Join(f.config.Data, party))
}

// read reads one of the directory's JSON files.
func (f *fsck) read(name string, into any) error {
	text, err := os.ReadFile(filepath.Join(f.config.Data, name))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// configure makes the configuration that of the directory's own server: all that
// there is, and in dev mode at the address of its last start, since the key
// identifiers name the port.
func (f *fsck) configure() error {
	c := &f.config
	c.Dev, c.Roles = f.instance.Dev, nil
	if f.has(vaultDir) {
		c.Roles = append(c.Roles, roleVault)
	}
	if f.has(platformDir) {
		c.Roles = append(c.Roles, rolePlatform)
	}
	if !c.Dev || f.structureOnly { // which serves nothing
		return nil
	}
	var b Bootstrap
	if err := f.read(bootstrapFile, &b); err != nil {
		return err
	}
	u, err := url.Parse(b.Authority)
	if err != nil {
		return fmt.Errorf("%s: %w", bootstrapFile, err)
	}
	c.Domain, c.Listen, c.PublicPort = b.Domain, net.JoinHostPort("127.0.0.1", cmp.Or(u.Port(), "443")), ""
	return nil
}

// went makes a check that could not go on a finding, unless it was broken off.
func (f *fsck) went(part string, err error) error {
	if err == nil {
		return nil
	}
	var usage usageError
	if errors.Is(err, context.Canceled) || errors.As(err, &usage) {
		return err
	}
	f.report.Found(part, "", "The check could not go on: %v", err)
	return nil
}

// logged verifies a party's log.
func (f *fsck) logged(ctx context.Context, name string) error {
	log, err := verifyPartyLog(ctx, filepath.Join(f.config.Data, name), name)
	if err != nil {
		return err
	}
	f.report.Add("audit entry", log.Entries)
	for _, p := range log.Problems {
		f.report.Found("audit entry", fmt.Sprintf("%s %d", p.Part, p.Number), "%s", p.Text)
	}
	if more := log.Found - len(log.Problems); more > 0 {
		f.report.Found("audit entry", "", "There are %d more problems.", more)
	}
	return nil
}

// party checks what a party keeps, as far as that takes no vault.
func (f *fsck) party(ctx context.Context, name string) error {
	p, err := openUnlogged(ctx, f.config, name)
	if err != nil {
		return err
	}
	defer p.close()
	r := &f.report
	r.Checked("database")
	if err := p.db.Check(ctx, func(text string) { r.Found("database", "", "%s", text) }); err != nil {
		return err
	}
	switch name {
	case loginDir:
		return identity.Check(ctx, p.db.Identity(), f.instance.Instance, p.root.Derive("kluis/v1/issuer"), r)
	case governanceDir:
		return history.Check(ctx, p.db.Posture(), r)
	case vaultDir:
		instance, under := p.root.Instance(), p.root.Derive("kluis/v1/private-keys")
		return vault.Check(ctx, p.db.Vault(), map[string]vault.Prover{
			vault.Software: softkey.New(instance, under), hsm.Platform: hsm.New(instance, under, nil),
		}, r)
	}
	if err := f.went("scope", encryption.Check(ctx, p.db.Encryption(), p.root, r)); err != nil {
		return err
	}
	if err := f.went("workspace", workspace.Check(ctx, p.db.Workspace(), r)); err != nil {
		return err
	}
	if err := f.went("storage account", account.Check(ctx, p.db.Account(), p.root, r)); err != nil {
		return err
	}
	objects, err := f.config.objects(ctx, p.dir)
	if err != nil {
		return err
	}
	return lake.New(lake.Config{Store: p.db.Lake(), Objects: objects}).CheckRows(ctx, r)
}

// content opens all that is sealed on the platform.
func (f *fsck) content(ctx context.Context, lock *os.File) error {
	f.report.Party = platformDir
	s := &server{config: f.config, lock: lock}
	defer s.stop()
	if err := s.openData(ctx); err != nil {
		return f.went("party", err)
	}
	var err error
	if s.objects, err = f.config.objects(ctx, s.operator.dir); err != nil {
		return err
	}
	if err := s.serveItself(ctx); fault.ReasonOf(err) == fault.Unavailable {
		return err
	} else if err != nil {
		return f.went("party", err)
	}
	keys := s.ring.Inspect()
	defer keys.Close()
	r := &f.report
	defer f.showProgress()()
	if err := f.went("scope", encryption.CheckKeys(ctx, keys, r)); err != nil {
		return err
	}
	if err := f.went("workspace", workspace.CheckContent(ctx, s.operator.db.Workspace(), keys, r)); err != nil {
		return err
	}
	files := lake.New(lake.Config{Store: s.operator.db.Lake(), Objects: s.objects, Keys: keys})
	return f.went("file or folder", files.CheckContent(ctx, f.quick, r))
}

// serveItself serves the vault and the issuer in the data directory to the platform in it
// alone, at the address that the keys' identifiers name: nobody else is to change anything
// now.
func (s *server) serveItself(ctx context.Context) error {
	listener, err := s.bind()
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "The vault cannot be served where its keys are looked for.").
			WithMend("Free the address. ('kluis fsck --structure-only' leaves out what takes a vault.)")
	}
	rt := &router{domain: s.config.Domain, health: s.ready.handler()}
	if err := s.wire(ctx, rt); err != nil {
		listener.Close()
		return err
	}
	return s.listen(listener, &router{domain: rt.domain, vault: rt.vault, token: rt.token, health: rt.health})
}

// showProgress shows how far the reading is, if somebody looks, until the function
// that it returns is called.
func (f *fsck) showProgress() (end func()) {
	if f.quick || f.report.Bytes == 0 || !term.IsTerminal(int(os.Stderr.Fd())) {
		return func() {}
	}
	bar := progressbar.DefaultBytes(f.report.Bytes, "reading")
	f.report.Progress = func(n int64) { bar.Add64(n) }
	return func() { bar.Finish() }
}

// print says what was checked and found.
func (f *fsck) print(w io.Writer, output string) error {
	r := &f.report
	if output == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		err := e.Encode(struct {
			Clean bool `json:"clean"`
			*check.Report
		}{r.Total == 0, r})
		if err != nil {
			return err
		}
	} else {
		printChecks(w, r)
	}
	if r.Total > 0 {
		return errNotHolding
	}
	return nil
}

func printChecks(w io.Writer, r *check.Report) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PARTY\tCHECKED\tCOUNT\tNOT CHECKED\tFINDINGS")
	for _, c := range r.Counts {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\n", c.Party, c.Part, c.Checked, c.Skipped, c.Found)
	}
	t.Flush()
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
	for _, n := range r.Findings {
		fmt.Fprintf(w, "%s\n", n)
	}
	switch {
	case r.Total == 0:
		fmt.Fprintln(w, "Nothing is wrong.")
	case r.Total == 1:
		fmt.Fprintln(w, "There is 1 finding.")
	default:
		fmt.Fprintf(w, "There are %d findings.\n", r.Total)
	}
}
