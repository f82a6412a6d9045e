package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/internal/sdk"
)

// A DrillReport is what a revocation drill has measured. Times are milliseconds
// since the vault has confirmed the last change of the key.
type DrillReport struct {
	Server        string       `json:"server"` // the platform's address
	ClientVersion string       `json:"clientVersion"`
	Production    bool         `json:"production"`
	Workspace     string       `json:"workspaceId"`
	KID           string       `json:"kid"` // the key version in use when the drill began
	Disabled      []string     `json:"disabledVersions"`
	Bound         int64        `json:"killSwitchBoundSeconds"`
	Started       time.Time    `json:"started"`
	Trials        []DrillTrial `json:"trials"`
}

// A DrillTrial is one time that the key was taken away and given back.
type DrillTrial struct {
	Disabled time.Time        `json:"disabled"` // when the vault had confirmed it
	Dark     map[string]int64 `json:"darkMilliseconds"`
	Enabled  time.Time        `json:"enabled"`
	Back     map[string]int64 `json:"backMilliseconds"`
}

// Evidence is a report with the platform's proof that its audit log holds the
// report's SHA-256.
type Evidence struct {
	Report      json.RawMessage `json:"report"` // hashed without white space
	Certificate json.RawMessage `json:"certificate"`
}

// The things that a drill tries.
var drillProbes = []string{"read", "write", "list", "restore"}

// probePause is how long a probe waits between two tries: what it measures is that
// much too long at most, and the length of the try itself.
const probePause = 20 * time.Millisecond

type drill struct {
	*session
	custodian, engineer string
	vault, resources    string
	evidence, version   string
	trials              int
	patience            time.Duration
	production          bool

	o      *sdk.Officer
	e      *sdk.Engineer
	keys   *azkeys.Client
	key    string // its name
	report DrillReport

	workspace string // its id
	lakehouse string // its id
	notebook  string // the id of a soft-deleted item, in a canary
	probe     string // path of a file
}

func drillCommand() *cobra.Command {
	d := &drill{session: &session{}}
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
'kluis audit certificate verify' checks it without a server.`,
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
	d.confirmFlag(c)
	return c
}

func (d *drill) run(ctx context.Context, args []string) (err error) {
	switch {
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
	d.report = DrillReport{
		Server: c.Target.Endpoints["fabric"], ClientVersion: d.version, Production: d.production, Workspace: d.workspace,
		KID: st.KeyVersion, Bound: st.Bound, Started: time.Now().UTC().Truncate(time.Microsecond),
	}
	for range d.trials {
		if err := d.trial(ctx); err != nil {
			return err
		}
	}
	return d.conclude(ctx)
}

// furnish makes the canary: a key, and a workspace under it.
func (d *drill) furnish(ctx context.Context) (clean func(context.Context) error, err error) {
	var undo []func(context.Context) error
	clean = func(ctx context.Context) (err error) {
		for _, u := range slices.Backward(undo) {
			err = errors.Join(err, u(ctx))
		}
		return err
	}
	name := "kluis-drill-" + uuid.NewString()[:8]
	d.key = name
	if d.keys, err = d.o.Keys(d.o.Target().VaultURI(d.vault)); err != nil {
		return clean, err
	}
	made, err := d.keys.CreateKey(ctx, name, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA), KeySize: to.Ptr[int32](2048)}, nil)
	if err != nil {
		return clean, err
	}
	undo = append(undo, func(ctx context.Context) error {
		_, err := d.keys.DeleteKey(ctx, name, nil)
		return err
	})
	scope, err := roleScope(ctx, d.o, d.resources, keyRef{vault: d.vault, name: name})
	if err != nil {
		return clean, err
	}
	grant := uuid.NewString()
	if _, err := d.o.Roles.Create(ctx, scope, grant, armauthorization.RoleAssignmentCreateParameters{Properties: &armauthorization.RoleAssignmentProperties{
		RoleDefinitionID: to.Ptr("/subscriptions/" + d.o.Target().SubscriptionID + "/providers/Microsoft.Authorization/roleDefinitions/" + encryptionUser),
		PrincipalID:      to.Ptr(d.o.Target().Platform.ObjectID), PrincipalType: to.Ptr(armauthorization.PrincipalTypeServicePrincipal),
	}}, nil); err != nil {
		return clean, err
	}
	undo = append(undo, func(ctx context.Context) error {
		_, err := d.o.Roles.Delete(ctx, scope, grant, nil)
		return err
	})

	f := d.e.Fabric
	if d.workspace, err = d.make(ctx, "/workspaces", map[string]string{"displayName": name, "description": "A revocation drill; it may be deleted."}); err != nil {
		return clean, err
	}
	undo = append(undo, func(ctx context.Context) error { return f.Call(ctx, "DELETE", "/workspaces/"+d.workspace, nil, nil) })
	items := "/workspaces/" + d.workspace + "/items"
	if d.lakehouse, err = d.make(ctx, items, map[string]string{"displayName": "canary", "type": "Lakehouse"}); err != nil {
		return clean, err
	}
	if d.notebook, err = d.make(ctx, items, map[string]string{"displayName": "lost", "type": "Notebook"}); err != nil {
		return clean, err
	}
	if err := f.Call(ctx, "DELETE", items+"/"+d.notebook, nil, nil); err != nil {
		return clean, err
	}
	if err := d.place(ctx); err != nil {
		return clean, err
	}
	if err := f.Call(ctx, "POST", "/workspaces/"+d.workspace+"/encryption/assign", map[string]string{"keyIdentifier": versionless(*made.Key.KID)}, nil); err != nil {
		return clean, err
	}
	deadline := time.Now().Add(d.patience)
	for {
		st, err := f.Encryption(ctx, d.workspace)
		if err != nil || st.Detail.Status == "Active" {
			return clean, err
		}
		if time.Now().After(deadline) {
			return clean, fmt.Errorf("the canary workspace does not come under its key: it is %s", st.Detail.Status)
		}
		time.Sleep(probePause)
	}
}

func (d *drill) make(ctx context.Context, path string, body any) (id string, err error) {
	var made map[string]any
	err = d.e.Fabric.Call(ctx, "POST", path, body, &made)
	return text(made, "id"), err
}

// place puts the file there that is read.
func (d *drill) place(ctx context.Context) error {
	d.probe = d.lakehouse + "/Files/kluis-drill-" + uuid.NewString()[:8]
	return d.write(ctx)
}

func (d *drill) write(ctx context.Context) error {
	_, err := d.e.Blobs.UploadBuffer(ctx, d.workspace, d.probe, []byte("drill"), nil)
	return err
}

// find takes a production workspace and its key for the drill.
func (d *drill) find(ctx context.Context, nameOrID string) (clean func(context.Context) error, err error) {
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
	id := azkeys.ID(st.KeyVersion)
	d.key = id.Name()
	if d.keys, err = d.o.Keys(strings.TrimSuffix(string(id), "/keys/"+id.Name()+"/"+id.Version())); err != nil {
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

// try does one thing with the data.
func (d *drill) try(ctx context.Context, what string) error {
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

// keyRefused reports whether an answer says that the vault has refused the key:
// silence, throttling and faults of the platform's own do not count.
func keyRefused(err error) bool {
	var re *azcore.ResponseError
	if errors.As(err, &re) {
		return re.StatusCode == 403 && strings.HasPrefix(re.ErrorCode, "KeyVault")
	}
	var fe *sdk.FabricError
	return errors.As(err, &fe) && fe.Status == 403 && strings.HasPrefix(fe.Code, "CustomerManagedKey")
}

// measure tries everything until it ends as it should, and returns how many
// milliseconds after from each did.
func (d *drill) measure(ctx context.Context, from time.Time, reached func(error) bool) (map[string]int64, error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	out, errs := map[string]int64{}, []error(nil)
	for _, what := range drillProbes {
		all.Go(func() {
			for {
				err := d.try(ctx, what)
				took := time.Since(from)
				if reached(err) {
					mu.Lock()
					out[what] = took.Milliseconds()
					mu.Unlock()
					return
				}
				if took > d.patience || ctx.Err() != nil {
					mu.Lock()
					errs = append(errs, fmt.Errorf("%s: after %s still: %w", what, took.Round(time.Millisecond), cmpErr(err)))
					mu.Unlock()
					return
				}
				time.Sleep(probePause)
			}
		})
	}
	all.Wait()
	return out, errors.Join(errs...)
}

func cmpErr(err error) error {
	if err == nil {
		return errors.New("it succeeds")
	}
	return Explain(err)
}

// trial takes the key away, and gives it back whatever happens.
func (d *drill) trial(ctx context.Context) (err error) {
	versions, err := d.enabled(ctx)
	if err != nil {
		return err
	}
	if len(versions) == 0 {
		return fmt.Errorf("no version of key %s is enabled", d.key)
	}
	back := false
	enable := func(ctx context.Context) error {
		back = true
		return d.switchTo(ctx, versions, true)
	}
	defer func() {
		if !back {
			err = errors.Join(err, enable(context.WithoutCancel(ctx)))
		}
	}()
	if err := d.switchTo(ctx, versions, false); err != nil {
		return err
	}
	t := DrillTrial{Disabled: time.Now()}
	if t.Dark, err = d.measure(ctx, t.Disabled, keyRefused); err != nil {
		return err
	}
	for _, what := range drillProbes { // what is dark stays so
		if err := d.try(ctx, what); !keyRefused(err) {
			return fmt.Errorf("%s: it was refused, and then: %w", what, cmpErr(err))
		}
	}
	if err := enable(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	t.Enabled = time.Now()
	if t.Back, err = d.measure(ctx, t.Enabled, func(err error) bool { return err == nil }); err != nil {
		return err
	}
	t.Disabled, t.Enabled = t.Disabled.UTC().Truncate(time.Microsecond), t.Enabled.UTC().Truncate(time.Microsecond)
	d.report.Disabled = versions
	d.report.Trials = append(d.report.Trials, t)
	return nil
}

// enabled returns the key's versions that are switched on.
func (d *drill) enabled(ctx context.Context) (versions []string, err error) {
	all, err := listVersions(ctx, d.keys, d.key)
	for _, v := range all {
		if value(v.Attributes.Enabled) {
			versions = append(versions, v.KID.Version())
		}
	}
	return versions, err
}

// switchTo switches versions on or off; where one fails the others are tried all
// the same.
func (d *drill) switchTo(ctx context.Context, versions []string, on bool) (err error) {
	for _, v := range versions {
		_, e := d.keys.UpdateKey(ctx, d.key, v, azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: &on}}, nil)
		err = errors.Join(err, e)
	}
	return err
}

// conclude has the platform vouch for the report, and shows it.
func (d *drill) conclude(ctx context.Context) error {
	report, err := json.Marshal(d.report)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(report)
	dark, back := map[string]int64{}, map[string]int64{}
	var slowestDark, slowestBack int64
	for _, t := range d.report.Trials {
		for _, what := range drillProbes {
			dark[what], back[what] = max(dark[what], t.Dark[what]), max(back[what], t.Back[what])
			slowestDark, slowestBack = max(slowestDark, dark[what]), max(slowestBack, back[what])
		}
	}
	e := Evidence{Report: report}
	err = d.e.Fabric.Call(ctx, "POST", "/admin/encryption/drills", map[string]any{
		"workspaceId": d.workspace, "reportSha256": hex.EncodeToString(sum[:]), "trials": len(d.report.Trials),
		"darkMilliseconds": slowestDark, "backMilliseconds": slowestBack,
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
	for _, what := range drillProbes {
		var first, again []string
		for _, t := range d.report.Trials {
			first, again = append(first, fmt.Sprint(t.Dark[what])), append(again, fmt.Sprint(t.Back[what]))
		}
		rows = append(rows, []string{what, strings.Join(first, " "), strings.Join(again, " ")})
	}
	return d.show(e, "TRIED,REFUSED AFTER ms,BACK AFTER ms", rows)
}
