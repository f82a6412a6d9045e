package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/root"
)

func rootCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "root",
		Short: "Reseal, recover and share the roots of a data directory",
		Long: `Reseal, recover and share the roots of a data directory, each party's apart. The
server must not run meanwhile. What is done is recorded in the party's audit log.`,
	}
	cmd.AddCommand(rootResealCommand(), rootSplitCommand(), rootRecoverCommand())
	return cmd
}

// A rootAct is a command upon one party's root.
type rootAct struct {
	config        Config
	party         string
	to            string // the type of the new seal
	newPassphrase string // the file that holds it
}

// flags declares what every such command takes.
func (a *rootAct) flags(cmd *cobra.Command) {
	addFlags(cmd.Flags())
	for _, other := range []string{"dev", "seal", "listen", "roles", "lease", "bound", "public-port", "vaults"} {
		cmd.Flags().MarkHidden(other)
	}
	cmd.Flags().StringVar(&a.party, "party", "", "whose root: login, vault or platform")
	cmd.MarkFlagRequired("party")
}

// sealFlags declares what says the new seal.
func (a *rootAct) sealFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.to, "to", "", "the new seal: passphrase, pkcs11 or vault")
	cmd.Flags().StringVar(&a.newPassphrase, "new-passphrase-file", "", "read the new passphrase from `FILE`")
	cmd.MarkFlagRequired("to")
}

func (a *rootAct) read(cmd *cobra.Command) (err error) {
	if a.config, err = readConfig(cmd); err != nil {
		return err
	}
	if _, ok := partySchemas[a.party]; !ok || !rooted(a.party) {
		return usageError{fmt.Errorf("no such party: %q; there are login, vault and platform", a.party)}
	}
	return nil
}

// newSeal returns the seal that the flags ask for.
func (a *rootAct) newSeal(ctx context.Context) (root.Seal, error) {
	switch t := root.SealType(a.to); t {
	case root.PassphraseType:
		return passphraseIn(a.newPassphrase, "--new-passphrase-file")
	case root.TokenType, root.RemoteKeyType:
		return a.config.sealAs(ctx, t)
	}
	return nil, usageError{fmt.Errorf("--to is passphrase, pkcs11 or vault, not %q", a.to)}
}

// with calls act in the locked data directory with the party's log.
func (a *rootAct) with(ctx context.Context, act func(p *party, i instance) error) (err error) {
	lock, err := lockDir(a.config.Data)
	if err != nil {
		return err
	}
	defer lock.Close()
	i, err := instanceOf(a.config.Data)
	if err != nil {
		return err
	}
	a.config.Dev = i.Dev
	p := &party{name: a.party, dir: filepath.Join(a.config.Data, a.party)}
	if !hasDatabase(p.dir) {
		return fmt.Errorf("%s holds no %s with a database", a.config.Data, a.party)
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if p.db, err = openDatabase(ctx, p.dir, partySchemas[a.party]); err != nil {
		return err
	}
	if err := p.openLog(ctx, audit.Config{}); err != nil {
		return err
	}
	return act(p, i)
}

// instanceOf reads what a data directory is.
func instanceOf(data string) (i instance, err error) {
	text, err := os.ReadFile(filepath.Join(data, instanceFile))
	if err != nil {
		return i, fmt.Errorf("%s is not a data directory: %w", data, err)
	}
	if err := json.Unmarshal(text, &i); err != nil {
		return i, fmt.Errorf("%s: %w", instanceFile, err)
	}
	return i, nil
}

// open opens the party's root.
func (a *rootAct) open(ctx context.Context, p *party) (*root.Root, error) {
	unseal, err := a.config.unseal(ctx, p.path(rootFile))
	if err != nil {
		return nil, err
	}
	return root.Open(p.path(rootFile), unseal)
}

// record writes an act, or the attempt at one, into the party's log.
func record(ctx context.Context, p *party, operation string, failure error, detail map[string]string) error {
	e := audit.Entry{Operation: operation, Outcome: audit.Allowed, Resource: "/root", Detail: detail}
	if failure != nil {
		e.Outcome, e.Reason = audit.Failed, fault.ReasonOf(failure)
		if e.Reason == fault.Denied {
			e.Outcome = audit.Denied
		}
	}
	return errors.Join(failure, p.log.Record(ctx, e))
}

func rootResealCommand() *cobra.Command {
	var a rootAct
	cmd := &cobra.Command{
		Use:   "reseal",
		Short: "Seal a root anew: by another passphrase, a token, or a vault's key",
		Long: `Seal a root anew: by another passphrase, a PKCS#11 token, or the newest version of a
key of a vault elsewhere. The configuration says how the root opens now.

It is the same root: what it seals stays as it is, and recovery shares stay good.
Copies of the old root file, those in backups too, open with what sealed them. To go
from one vault's key to another vault's, go by a passphrase.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.read(cmd); err != nil {
				return err
			}
			ctx := cmd.Context()
			return a.with(ctx, func(p *party, _ instance) error {
				seal, err := a.newSeal(ctx)
				if err != nil {
					return err
				}
				r, err := a.open(ctx, p)
				detail := map[string]string{"to": a.to}
				if err != nil {
					return record(ctx, p, "root/reseal", err, detail)
				}
				defer r.Close()
				detail["root"], detail["from"] = r.ID(), string(r.SealType())
				if err := record(ctx, p, "root/reseal", nil, detail); err != nil {
					return err
				}
				if err := r.Reseal(p.path(rootFile), seal); err != nil {
					return record(ctx, p, "root/reseal", err, detail)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "the %s's root %s is sealed by %s now\n", p.name, r.ID(), r.SealType())
				return nil
			})
		},
	}
	a.flags(cmd)
	a.sealFlags(cmd)
	return cmd
}

func rootSplitCommand() *cobra.Command {
	var a rootAct
	var n, m int
	var output string
	cmd := &cobra.Command{
		Use:   "split",
		Short: "Print a new set of recovery shares of a root",
		Long: `Print a new set of recovery shares of a root, once. Any -m of the -n open the root
without its seal. Earlier sets stay good, and do not mix with this one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.read(cmd); err != nil {
				return err
			}
			ctx := cmd.Context()
			return a.with(ctx, func(p *party, _ instance) error {
				detail := map[string]string{"shares": strconv.Itoa(n), "threshold": strconv.Itoa(m)}
				r, err := a.open(ctx, p)
				if err != nil {
					return record(ctx, p, "root/split", err, detail)
				}
				defer r.Close()
				detail["root"] = r.ID()
				shares, err := r.Split(n, m)
				if err := record(ctx, p, "root/split", err, detail); err != nil {
					return err
				}
				all := texts(map[string]root.Shares{p.name: shares})[p.name]
				if output == "json" {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"party": p.name, "root": r.ID(), "threshold": m, "recoveryShares": all})
				}
				for _, s := range all {
					fmt.Fprintln(cmd.OutOrStdout(), s)
				}
				return nil
			})
		},
	}
	a.flags(cmd)
	cmd.Flags().IntVarP(&n, "shares", "n", root.DefaultShares, "how many shares")
	cmd.Flags().IntVarP(&m, "threshold", "m", root.DefaultThreshold, "how many of them open the root")
	addOutput(cmd, &output)
	return cmd
}

func rootRecoverCommand() *cobra.Command {
	var a rootAct
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Put a root together from recovery shares, and seal it anew",
		Long: `Put a root together from recovery shares, one a line on the standard input, and seal
it anew: where the passphrase, the token or the vault that sealed it is lost, or the
root's file. Nothing changes unless the shares hold.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.read(cmd); err != nil {
				return err
			}
			shares, err := readShares(cmd.InOrStdin())
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			return a.with(ctx, func(p *party, i instance) error {
				seal, err := a.newSeal(ctx)
				if err != nil {
					return err
				}
				detail := map[string]string{"to": a.to, "shares": indexes(shares)}
				r, err := root.Assemble(p.path(rootFile), i.Instance, shares)
				if err := record(ctx, p, "root/recover", err, detail); err != nil {
					return err
				}
				defer r.Close()
				if err := r.Reseal(p.path(rootFile), seal); err != nil {
					return record(ctx, p, "root/recover", err, detail)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "the %s's root %s is recovered, and sealed by %s\n", p.name, r.ID(), r.SealType())
				return nil
			})
		},
	}
	a.flags(cmd)
	a.sealFlags(cmd)
	return cmd
}

// readShares reads recovery shares, one a line.
func readShares(r io.Reader) (shares root.Shares, err error) {
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		s, err := root.ParseShare(lines.Text())
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		shares = append(shares, s)
	}
	return shares, lines.Err()
}

// indexes says which shares were given: "1,3,4".
func indexes(shares root.Shares) string {
	var all []string
	for _, s := range shares {
		all = append(all, strconv.Itoa(s.Index()))
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}
