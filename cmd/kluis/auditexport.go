package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/api/keyvault"
	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/audit/export"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/history"
)

// withLog opens a party's log without a running server.
func withLog(ctx context.Context, data, party string, fn func(*audit.Log) error) error {
	schema, ok := partySchemas[party]
	if !ok {
		return usageError{fmt.Errorf("no such party: %q; there are login, vault, platform and governance", party)}
	}
	dir := filepath.Join(data, party)
	if !hasDatabase(dir) {
		return fmt.Errorf("%s holds no audit log of the %s", data, party)
	}
	lock, err := lockDir(data)
	if err != nil {
		return err
	}
	defer lock.Close()
	db, err := openAsIs(ctx, dir, schema)
	if err != nil {
		return err
	}
	defer db.Close()
	return fn(&audit.Log{Config: audit.Config{Store: db.Audit()}}) // only to be read
}

// timeFlag is a time on the command line.
func timeFlag(name, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usageError{fmt.Errorf("--%s takes a time such as 2026-07-01T12:00:00Z, or a day, not %q", name, text)}
}

func auditExportCommand() *cobra.Command {
	var data, party, format, from, until, suffix string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Print an audit log, without a running server",
		Long: `Print an audit log as lines of JSON, without a running server.

The format "azure" is Key Vault's AuditEvent records, for queries and parsers that
are made for those; "json" is each entry as it was recorded. What is printed is a
copy without proof: 'kluis audit verify' says whether the log holds.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			line, err := export.FormatNamed(format, export.Azure{Suffix: suffix, Status: keyvault.Status})
			if err != nil {
				return usageError{err}
			}
			q := audit.Query{Limit: 1000}
			if q.From, err = timeFlag("from", from); err != nil {
				return err
			}
			if q.Until, err = timeFlag("until", until); err != nil {
				return err
			}
			return withLog(cmd.Context(), data, party, func(log *audit.Log) error {
				out := bufio.NewWriter(cmd.OutOrStdout())
				for {
					entries, err := log.Entries(cmd.Context(), q)
					if err != nil {
						return err
					}
					for _, e := range entries {
						text, err := line(e)
						if err != nil {
							return err
						}
						out.Write(text)
						out.WriteByte('\n')
					}
					if len(entries) < q.Limit {
						return out.Flush()
					}
					q.After = &entries[len(entries)-1].Sequence
				}
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&data, "data", defaultConfig().Data, "the data `DIR`ectory")
	f.StringVar(&party, "party", vaultDir, "whose log: vault, platform, login or governance")
	f.StringVar(&format, "format", "azure", "azure or json")
	f.StringVar(&from, "from", "", "only entries from this `TIME` on")
	f.StringVar(&until, "until", "", "only entries before this `TIME`")
	f.StringVar(&suffix, "suffix", "vault.localhost:8443", "host suffix of the vaults, for azure's URLs")
	cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(export.Formats(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func auditWhoCommand() *cobra.Command {
	var data, kid, at, output string
	cmd := &cobra.Command{
		Use:   "who",
		Short: "Say who could unwrap with a key at a time, without a running server",
		Long: `Say who could unwrap with a key at a time, from the vault's audit log alone and
without a running server.

The answer counts role assignments and the states of key and vault. Groups are told
by their ids, since their members are the directory's. Access policies and network
rules are not looked at. 'kluis audit verify' says whether the log holds.

  kluis audit who --key https://bank.vault.example.com/keys/lake --at 2026-07-01T12:00:00Z`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := parseKID(kid)
			if err != nil {
				return err
			}
			if q.At, err = timeFlag("at", at); err != nil {
				return err
			}
			if q.At.IsZero() {
				q.At = time.Now()
			}
			return withLog(cmd.Context(), data, vaultDir, func(log *audit.Log) error {
				answer, err := history.Who(cmd.Context(), log, rbac.VaultRoles, q)
				if err != nil {
					return err
				}
				if output == "json" {
					e := json.NewEncoder(cmd.OutOrStdout())
					e.SetIndent("", "  ")
					return e.Encode(answer)
				}
				return printWho(cmd, answer)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&data, "data", defaultConfig().Data, "the data `DIR`ectory")
	f.StringVar(&kid, "key", "", "the key's URL (`KID`), with or without a version")
	f.StringVar(&at, "at", "", "the `TIME` asked about (default now)")
	cmd.MarkFlagRequired("key")
	addOutput(cmd, &output)
	return cmd
}

func printWho(cmd *cobra.Command, a history.Answer) error {
	w := cmd.OutOrStdout()
	switch a.Blocked {
	case "":
		fmt.Fprintf(w, "At %s these could unwrap with %s:\n", a.At.Format(time.RFC3339), cmp.Or(string(a.Version), "it"))
	case fault.VaultNotFound, fault.KeyNotFound:
		fmt.Fprintf(w, "At %s nobody could unwrap: there was no such key (%s).\n", a.At.Format(time.RFC3339), a.Blocked)
	default:
		fmt.Fprintf(w, "At %s nobody could unwrap (%s). These had the right to:\n", a.At.Format(time.RFC3339), a.Blocked)
	}
	if len(a.Holders) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PRINCIPAL\tROLE\tSINCE\tGIVEN BY\tSCOPE")
	for _, h := range a.Holders {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", h.Principal, h.RoleName, when(h.Since), cmp.Or(string(h.GivenBy), "-"), h.Scope)
	}
	return t.Flush()
}

// parseKID takes a key's URL apart. On a host that is not a vault's own it is one
// of the default vault.
func parseKID(kid string) (q history.Question, err error) {
	bad := usageError{fmt.Errorf("--key takes a key's URL such as https://bank.vault.example.com/keys/lake, not %q", kid)}
	u, err := url.Parse(kid)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return q, bad
	}
	seg := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(seg) < 2 || len(seg) > 3 || !strings.EqualFold(seg[0], "keys") {
		return q, bad
	}
	q = history.Question{Vault: defaultVault, Action: history.Unwrap}
	if name, rest, ok := strings.Cut(u.Hostname(), "."); ok && (strings.HasPrefix(rest, "vault.") || strings.HasPrefix(rest, "managedhsm.")) {
		q.Vault = vault.Name(name)
	}
	if q.Key, err = vault.ParseKeyName(seg[1]); err != nil {
		return q, bad
	}
	if len(seg) == 3 {
		if q.Version, err = vault.ParseVersion(seg[2]); err != nil {
			return q, bad
		}
	}
	return q, nil
}
