package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/drill"
	"github.com/kluis-io/kluis/internal/sdk"
)

// A drillRun is one call of 'kluis drill'.
type drillRun struct {
	*session
	custodian, engineer string
	vault, resources    string
	evidence, version   string
	trials              int
	patience            time.Duration
	production, restore bool

	o      *sdk.Officer
	e      *sdk.Engineer
	key    drill.Key
	report drill.Report

	workspace string // its id
	lakehouse string // its id
	notebook  string // the id of a soft-deleted item, in a canary
	probe     string // path of a file
}

func drillCommand() *cobra.Command {
	d := &drillRun{session: &session{}}
	c := &cobra.Command{
		Use:   "drill [WORKSPACE]",
		Short: "Take a key away and give it back, and measure how long each takes",
		Long: `Take a key away and give it back, and measure how long each takes until nothing
can be read, written, listed or restored any more, and until everything can again.

A drill makes a key in --vault and a workspace under it, and removes both. With
--production it takes away the key of WORKSPACE instead: every workspace under that
key is dark meanwhile, and the name has to be typed, or --yes given.

The key is disabled and enabled with the custodian's own credential, and the data
tried with the engineer's. The platform's audit log takes the SHA-256 of the report,
and its proof goes into the evidence with the report:
'kluis audit certificate verify' checks it without a server.

A drill that is interrupted gives the key back. If it is killed, the vault still has
its mark on the key: --restore looks through the keys of --vault and gives back what
drills have left away. A kluis vault does so by itself when --patience is over.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d.version = cmd.Root().Version
			return d.run(cmd.Context(), args)
		},
	}
	f := c.Flags()
	d.flags(c)
	d.wrap(c)
	f.StringVar(&d.custodian, "custodian", "custodian", "the `PRINCIPAL` of the profile who takes the key away")
	f.StringVar(&d.engineer, "engineer", "engineer", "the `PRINCIPAL` of the profile who tries the data")
	f.StringVar(&d.vault, "vault", "default", "the `VAULT` of the key")
	groupFlag(c, &d.resources)
	f.IntVar(&d.trials, "trials", 3, "how often")
	f.DurationVar(&d.patience, "patience", 10*time.Minute, "how long to wait for one effect before the drill counts as failed")
	f.StringVar(&d.evidence, "evidence", "", "write the signed evidence to this `FILE`")
	f.BoolVar(&d.production, "production", false, "take away the key of WORKSPACE itself")
	f.BoolVar(&d.restore, "restore", false, "run no drill: give back the keys of --vault that a drill has left away")
	d.confirmFlag(c)
	return c
}

func (d *drillRun) run(ctx context.Context, args []string) (err error) {
	switch {
	case d.restore && (d.production || len(args) > 0):
		return usage("--restore gives back all keys of --vault that a drill has left away: it takes no workspace")
	case d.production != (len(args) == 1):
		return usage("a workspace is named with --production, and only then: without it the drill makes one")
	case d.trials < 1 || d.trials > 100:
		return usage("--trials is between 1 and 100")
	case d.production:
		if err := d.confirm("Every workspace under the key of "+args[0]+" goes dark, and comes back.", args[0]); err != nil {
			return err
		}
	}
	c, err := d.clients()
	if err != nil {
		return err
	}
	if d.o, err = c.OfficerAs(d.custodian); err != nil {
		return err
	}
	if d.restore {
		return d.giveBack(ctx)
	}
	if d.e, err = c.EngineerAs(d.engineer); err != nil {
		return err
	}
	prepare := d.furnish
	if d.production {
		prepare = func(ctx context.Context) (func(context.Context) error, error) { return d.find(ctx, args[0]) }
	}
	clean, err := prepare(ctx)
	defer func() { err = errors.Join(err, clean(context.WithoutCancel(ctx))) }()
	if err != nil {
		return err
	}
	st, err := d.e.Fabric.Encryption(ctx, d.workspace)
	if err != nil {
		return err
	}
	d.report = drill.Report{
		Server: c.Target.Endpoints["fabric"], ClientVersion: d.version, Production: d.production, Workspace: d.workspace,
		KID: st.KeyVersion, Bound: st.Bound, Started: time.Now().UTC().Truncate(time.Microsecond),
	}
	for range d.trials {
		t, versions, err := drill.Run(ctx, d.key, d, d.patience, nil)
		if err != nil {
			return err
		}
		d.report.Add(t, versions)
	}
	return d.conclude(ctx)
}

// find takes a production workspace and its key for the drill.
func (d *drillRun) find(ctx context.Context, nameOrID string) (clean func(context.Context) error, err error) {
	clean = func(context.Context) error { return nil }
	if d.workspace, err = workspaceID(ctx, d.e.Fabric, nameOrID); err != nil {
		return clean, err
	}
	st, err := d.e.Fabric.Encryption(ctx, d.workspace)
	if err != nil {
		return clean, err
	}
	if st.KeyVersion == "" {
		return clean, fmt.Errorf("workspace %s is under no customer's key", nameOrID)
	}
	vault, name := drill.KeyAt(st.KeyVersion)
	d.key.Name = name
	if d.key.Client, err = d.o.Keys(vault); err != nil {
		return clean, err
	}
	items, err := d.e.Fabric.List(ctx, "/workspaces/"+d.workspace+"/items?type=Lakehouse")
	if err != nil {
		return clean, err
	}
	if len(items) == 0 {
		return clean, fmt.Errorf("workspace %s has no Lakehouse in which a file could be tried", nameOrID)
	}
	d.lakehouse = text(items[0], "id")
	if err := d.place(ctx); err != nil {
		return clean, err
	}
	return func(ctx context.Context) error {
		_, err := d.e.Blobs.DeleteBlob(ctx, d.workspace, d.probe, nil)
		return err
	}, nil
}

// Try does one thing with the data, as [drill.Data] has it.
func (d *drillRun) Try(ctx context.Context, what string) error {
	if err := d.try(ctx, what); err != nil {
		return tryError{err}
	}
	return nil
}

// A tryError is what has come of a try, told as people read it.
type tryError struct{ error }

func (e tryError) Error() string { return Explain(e.error).Error() }

func (d *drillRun) try(ctx context.Context, what string) error {
	switch what {
	case "read":
		r, err := d.e.Blobs.DownloadStream(ctx, d.workspace, d.probe, nil)
		if err == nil {
			err = r.Body.Close()
		}
		return err
	case "write":
		return d.write(ctx)
	case "list":
		fsys, err := d.e.FileSystem(d.workspace)
		if err != nil {
			return err
		}
		_, err = fsys.NewListPathsPager(true, nil).NextPage(ctx)
		return err
	}
	recoverable := "/workspaces/" + d.workspace + "/recoverableItems"
	if d.notebook == "" { // in production nothing is recovered, only looked for
		return d.e.Fabric.Call(ctx, "GET", recoverable, nil, nil)
	}
	if err := d.e.Fabric.Call(ctx, "POST", recoverable+"/"+d.notebook+"/recover", nil, nil); err != nil {
		return err
	}
	return d.e.Fabric.Call(ctx, "DELETE", "/workspaces/"+d.workspace+"/items/"+d.notebook, nil, nil)
}

// Refused reports whether an answer says that the vault has refused the key.
func (d *drillRun) Refused(err error) bool {
	var of tryError
	if !errors.As(err, &of) {
		return false
	}
	var re *azcore.ResponseError
	if errors.As(of.error, &re) {
		return re.StatusCode == 403 && strings.HasPrefix(re.ErrorCode, "KeyVault")
	}
	var fe *sdk.FabricError
	return errors.As(of.error, &fe) && fe.Status == 403 && strings.HasPrefix(fe.Code, "CustomerManagedKey")
}

// conclude has the platform vouch for the report, and shows it.
func (d *drillRun) conclude(ctx context.Context) error {
	report, sum, err := d.report.Text()
	if err != nil {
		return err
	}
	dark, back := d.report.Slowest()
	e := drill.Evidence{Report: report}
	err = d.e.Fabric.Call(ctx, "POST", "/admin/encryption/drills", map[string]any{
		"workspaceId": d.workspace, "reportSha256": sum, "trials": len(d.report.Trials), "darkMilliseconds": dark, "backMilliseconds": back,
	}, &e.Certificate)
	if err != nil {
		return fmt.Errorf("the platform has not recorded the drill: %w", err)
	}
	if d.evidence != "" {
		if err := writeJSON(d.evidence, e); err != nil {
			return err
		}
	}
	var rows [][]string
	for _, what := range drill.Probes {
		var first, again []string
		for _, t := range d.report.Trials {
			first, again = append(first, fmt.Sprint(t.Dark[what])), append(again, fmt.Sprint(t.Back[what]))
		}
		rows = append(rows, []string{what, strings.Join(first, " "), strings.Join(again, " ")})
	}
	return d.show(e, "TRIED,REFUSED AFTER ms,BACK AFTER ms", rows)
}

// giveBack gives back all keys of the vault that a drill has left away.
func (d *drillRun) giveBack(ctx context.Context) error {
	keys, err := d.o.Keys(d.uri(d.o, d.vault))
	if err != nil {
		return err
	}
	all, err := listKeys(ctx, keys)
	if err != nil {
		return err
	}
	type given struct {
		Key     string `json:"key"`
		Version string `json:"version"`
	}
	restored, rows := []given{}, [][]string(nil)
	for _, k := range all {
		versions, e := drill.Key{Client: keys, Name: k.KID.Name()}.Restore(ctx)
		err = errors.Join(err, e)
		for _, v := range versions {
			restored, rows = append(restored, given{k.KID.Name(), v}), append(rows, []string{k.KID.Name(), v})
		}
	}
	return errors.Join(d.show(restored, "KEY,VERSION GIVEN BACK", rows), err)
}
