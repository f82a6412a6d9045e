package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"

	"github.com/kluis-io/kluis/internal/check"
)

// changed returns a column's value with another nth byte: zero, or one if it is that
// already.
func changed(column string, n int) string {
	return fmt.Sprintf(`CAST(substr(%[1]s, 1, %[2]d) || CASE hex(substr(%[1]s, %[3]d, 1)) WHEN '00' THEN x'01' ELSE x'00' END || substr(%[1]s, %[4]d) AS BLOB)`,
		column, n-1, n, n+1)
}

// populate makes a data directory with something of everything in it, and leaves
// it unserved: a workspace under a customer's key, re-encrypted, with folders one
// of which was renamed, small and large files, staged blocks and an append, and
// one that is platform-managed.
func populate(t *testing.T) (data, keyIdentifier string) {
	t.Helper()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	c := defaultConfig()
	c.Data, c.Dev, c.Listen = filepath.Join(t.TempDir(), "data"), true, "127.0.0.1:0"
	s, err := start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	}()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	clients, officer, keys := clientsOf(t, c)
	target := clients.Target
	engineer, err := clients.Engineer()
	must(err)
	ctx := t.Context()
	key, err := keys.CreateKey(ctx, "kek", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA), KeySize: to.Ptr[int32](2048)}, nil)
	must(err)
	keyIdentifier = strings.TrimSuffix(string(*key.Key.KID), "/"+key.Key.KID.Version())
	scope := "/subscriptions/" + target.SubscriptionID + "/resourceGroups/kluis/providers/Microsoft.KeyVault/vaults/default/keys/kek"
	_, err = officer.Roles.Create(ctx, scope, "0c5fb5f0-4c8c-4b2e-9f0c-6f7a4a0b1c11", armauthorization.RoleAssignmentCreateParameters{
		Properties: &armauthorization.RoleAssignmentProperties{
			RoleDefinitionID: to.Ptr("/subscriptions/" + target.SubscriptionID +
				"/providers/Microsoft.Authorization/roleDefinitions/e147488a-f6f5-4113-8e2d-b22465e65bf6"),
			PrincipalID: &target.Platform.ObjectID, PrincipalType: to.Ptr(armauthorization.PrincipalTypeServicePrincipal),
		},
	}, nil)
	must(err)

	var ids []string
	for _, ws := range []string{"guarded", "plain"} {
		var made struct {
			ID string `json:"id"`
		}
		must(engineer.Fabric.Call(ctx, "POST", "/workspaces", map[string]string{"displayName": ws, "description": "of " + ws}, &made))
		ids = append(ids, made.ID)
		items := "/workspaces/" + made.ID + "/items"
		must(engineer.Fabric.Call(ctx, "POST", items, map[string]string{"displayName": "lake", "type": "Lakehouse"}, nil))
		must(engineer.Fabric.Call(ctx, "POST", items, map[string]any{
			"displayName": "notes", "type": "Notebook",
			"definition": map[string]any{"parts": []map[string]string{{
				"path": "notebook-content.py", "payloadType": "InlineBase64", "payload": base64.StdEncoding.EncodeToString([]byte("print(1)")),
			}}},
		}, nil))
		random := make([]byte, 300_000)
		rand.Read(random)
		for name, size := range map[string]int{"a/b/c/small.csv": 100, "a/b/large.bin": len(random), "a/empty": 0, "top.json": 20_000} {
			_, err := engineer.Blobs.UploadBuffer(ctx, ws, "lake.Lakehouse/Files/"+name, random[:size],
				&blockblob.UploadBufferOptions{Metadata: map[string]*string{"owner": to.Ptr("desk")}})
			must(err)
		}
		staged := engineer.Blobs.ServiceClient().NewContainerClient(ws).NewBlockBlobClient("lake.Lakehouse/Files/later.bin")
		for i := range 2 {
			_, err := staged.StageBlock(ctx, base64.StdEncoding.EncodeToString(fmt.Append(nil, "block", i)),
				streaming.NopCloser(bytes.NewReader(random[:40_000])), nil)
			must(err)
		}
		fsys, err := engineer.FileSystem(ws)
		must(err)
		_, err = fsys.NewDirectoryClient("lake.Lakehouse/Files/a/b").Rename(ctx, "lake.Lakehouse/Files/a/renamed", nil)
		must(err)
		appended := fsys.NewFileClient("lake.Lakehouse/Files/appended.log")
		_, err = appended.Create(ctx, nil)
		must(err)
		_, err = appended.AppendData(ctx, 0, streaming.NopCloser(bytes.NewReader(random[:50_000])), nil)
		must(err)
	}
	must(engineer.Fabric.Call(ctx, "POST", "/workspaces/"+ids[0]+"/encryption/assign", map[string]string{"keyIdentifier": keyIdentifier}, nil))
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		st, err := engineer.Fabric.Encryption(ctx, ids[0])
		must(err)
		if st.Detail.Status == "Active" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the workspace is still %s", st.Detail.Status)
		}
	}
	return c.Data, keyIdentifier
}

func checked(t *testing.T, data string, set func(*fsck)) *check.Report {
	t.Helper()
	f := fsck{config: defaultConfig()}
	f.config.Data = data
	if set != nil {
		set(&f)
	}
	if err := f.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &f.report
}

func counted(r *check.Report, part string) (c check.Count) {
	for _, one := range r.Counts {
		if one.Part == part {
			c.Checked += one.Checked
			c.Skipped += one.Skipped
		}
	}
	return c
}

func findings(r *check.Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "\t%s\n", f)
	}
	return b.String()
}

func TestFsck(t *testing.T) {
	origin, _ := populate(t)

	t.Run("clean", func(t *testing.T) {
		r := checked(t, origin, nil)
		if r.Total != 0 || len(r.Notes) != 0 {
			t.Fatalf("%d findings:\n%s%v", r.Total, findings(r), r.Notes)
		}
		for part, want := range map[string]int64{
			"scope": 2, "workspace": 2, "item name": 4, "opened item name": 4, "definition": 2, "description": 2,
			"private key": 1, "signing key": 1, "database": 4, "opened key": 12, "staged content": 6,
		} {
			if c := counted(r, part); c.Checked != want || c.Skipped != 0 {
				t.Errorf("%s: %d checked and %d not, want %d", part, c.Checked, c.Skipped, want)
			}
		}
		for part, least := range map[string]int64{"opened name": 14, "opened manifest": 16, "opened extent": 12, "object": 8, "audit entry": 60} {
			if c := counted(r, part); c.Checked < least || c.Skipped != 0 {
				t.Errorf("%s: %d checked and %d not, want at least %d", part, c.Checked, c.Skipped, least)
			}
		}
	})

	t.Run("twice", func(t *testing.T) { // the first has changed nothing
		if r := checked(t, origin, func(f *fsck) { f.quick = true }); r.Total != 0 {
			t.Fatalf("%d findings:\n%s", r.Total, findings(r))
		}
	})

	t.Run("the vault refuses", func(t *testing.T) {
		data := copied(t, origin)
		damage(t, data, vaultDir, `UPDATE vault_key_version SET enabled = 0`)
		r := checked(t, data, nil)
		if r.Total != 0 {
			t.Errorf("%d findings:\n%s", r.Total, findings(r))
		}
		if len(r.Notes) != 1 || !strings.Contains(r.Notes[0].Text, "the vault refuses") {
			t.Errorf("notes: %v", r.Notes)
		}
		for _, part := range []string{"opened key", "opened manifest", "opened name", "opened item name", "definition"} {
			if c := counted(r, part); c.Checked == 0 || c.Skipped == 0 {
				t.Errorf("%s: %d checked and %d not, want some of each", part, c.Checked, c.Skipped)
			}
		}
		db := tables(t, data, platformDir)
		var latched int
		if err := db.QueryRow(`SELECT count(*) FROM scope WHERE serving <> ''`).Scan(&latched); err != nil || latched != 0 {
			t.Errorf("the check has latched %d scopes (%v)", latched, err)
		}
	})

	t.Run("an orphan object is no damage", func(t *testing.T) {
		data := copied(t, origin)
		id := strings.Repeat("ab", 16)
		dir := filepath.Join(data, platformDir, extentsDir, "ab", "ab")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, id), []byte("left behind"), 0o600); err != nil {
			t.Fatal(err)
		}
		r := checked(t, data, func(f *fsck) { f.structureOnly = true })
		if r.Total != 0 || len(r.Notes) != 1 || r.Notes[0].Subject != id {
			t.Errorf("notes %v, findings:\n%s", r.Notes, findings(r))
		}
	})

	const guarded = `(SELECT id FROM workspace WHERE name = 'guarded')`
	const plain = `(SELECT id FROM workspace WHERE name = 'plain')`
	const large = `(SELECT owner FROM lake_extent WHERE inline IS NULL AND state = 1 LIMIT 1)`
	for _, d := range []struct {
		name      string
		party     string
		do        []string                        // statements on the party's database
		files     func(t *testing.T, data string) // or this
		structure bool                            // is found without a vault
		part      string                          // of a finding that must be there,
		text      string                          // and what its text has
	}{
		{name: "a byte of an extent", part: "opened extent", files: func(t *testing.T, data string) {
			path := extent(t, data)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "a truncated extent", structure: true, part: "extent", text: "sealed bytes", files: func(t *testing.T, data string) {
			if err := os.Truncate(extent(t, data), 1000); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "a lost extent", structure: true, part: "extent", text: "Its object does not exist", files: func(t *testing.T, data string) {
			if err := os.Remove(extent(t, data)); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "a byte of an inline extent", party: platformDir, part: "opened extent", do: []string{
			`UPDATE lake_extent SET inline = ` + changed("inline", 61) + ` WHERE inline IS NOT NULL AND state = 1`,
		}},
		{name: "a manifest of another file's", party: platformDir, part: "opened manifest", do: moved("lake_node", "manifest", "item = (SELECT item FROM lake_node ORDER BY id LIMIT 1)")},
		{name: "a name of another file's", party: platformDir, part: "opened name", do: moved("lake_entry", "record", "folder = (SELECT folder FROM lake_entry GROUP BY folder HAVING count(*) > 1 LIMIT 1)")},
		{name: "a look-up code", party: platformDir, part: "opened name", text: "look-up code", do: []string{
			`UPDATE lake_entry SET lookup = randomblob(32) WHERE kind = 1 AND folder IN (SELECT id FROM lake_folder WHERE role = '')`,
		}},
		{name: "an item key of another's", party: platformDir, part: "item key", do: moved("item_key", "sealed", "scope = "+guarded)},
		{name: "an item key of another's that the root opens", party: platformDir, structure: true, part: "item key", text: "does not open", do: moved("item_key", "sealed", "scope = "+plain)},
		{name: "a lost key", party: platformDir, structure: true, part: "item key", text: "missing", do: []string{
			`UPDATE item_key SET sealed = NULL WHERE id = (SELECT id FROM item_key WHERE scope = ` + guarded + ` LIMIT 1)`,
		}},
		{name: "no key that seals", party: platformDir, structure: true, part: "item", text: "keys of purpose", do: []string{
			`UPDATE item_key SET state = 'retiring' WHERE id = (SELECT id FROM item_key WHERE purpose = 'names' LIMIT 1)`,
		}},
		{name: "a state", party: platformDir, structure: true, part: "scope key", text: "does not open under the root", do: []string{
			`UPDATE scope_generation SET state = 'Enabling' WHERE scope = ` + guarded,
		}},
		{name: "a kid", party: platformDir, structure: true, part: "scope key", text: "does not open under the root", do: []string{
			`UPDATE scope_generation SET kid = replace(kid, '/kek/', '/mine/') WHERE scope = ` + guarded,
		}},
		{name: "an epoch that went back", party: platformDir, structure: true, part: "scope key", text: "epoch", do: []string{
			`UPDATE scope SET epoch = epoch - 1 WHERE id = ` + guarded,
		}},
		{name: "a wrap that was swapped for another's", party: platformDir, structure: true, part: "scope key", do: []string{
			`UPDATE scope_generation SET wrapped = randomblob(256) WHERE scope = ` + guarded,
		}},
		{name: "a platform-managed row that was put back", party: platformDir, structure: true, part: "scope key", text: "which the root alone opens", do: []string{
			`INSERT INTO scope_generation SELECT ` + guarded + `, 1, mode, state, root_id, algorithm, key_identifier, kid, epoch, wrapped, sealed, reseal_only, created
				FROM scope_generation WHERE scope = ` + plain,
		}},
		{name: "a lost link", party: platformDir, structure: true, part: "item key", text: "no link leads", do: []string{
			`UPDATE item_key SET generation = 1 WHERE id = (SELECT id FROM item_key WHERE scope = ` + guarded + ` LIMIT 1)`,
		}},
		{name: "Active, and an item is not", party: platformDir, structure: true, part: "scope", text: "1 items are not under its key", do: []string{
			`UPDATE item_state SET generation = 1 WHERE item = (SELECT item FROM item_state WHERE scope = ` + guarded + ` LIMIT 1)`,
		}},
		{name: "a key version said to be unused", party: platformDir, structure: true, part: "key version", text: "safe to disable", do: []string{
			`UPDATE scope_version SET last = first + 1`,
		}},
		{name: "a dropped audit entry", party: platformDir, structure: true, part: "audit entry", do: []string{`DELETE FROM audit_entry WHERE seq = 20`}},
		{name: "a changed audit entry of the vault's", party: vaultDir, structure: true, part: "audit entry", do: []string{
			`UPDATE audit_entry SET body = CAST(replace(CAST(body AS TEXT), '"allowed"', '"denied"') AS BLOB)`,
		}},
		{name: "a lost private key", party: vaultDir, structure: true, part: "private key", text: "does not exist", do: []string{`DELETE FROM vault_key_private`}},
		{name: "a byte of a private key", party: vaultDir, structure: true, part: "private key", text: "does not open", do: []string{
			`UPDATE vault_key_private SET sealed = ` + changed("sealed", 100),
		}},
		{name: "a public key", party: vaultDir, structure: true, part: "private key", text: "not that of the public", do: []string{
			`UPDATE vault_key_version SET public = ` + changed("public", 100),
		}},
		{name: "a current version that is none", party: vaultDir, structure: true, part: "key", text: "does not exist", do: []string{
			`UPDATE vault_key SET current = '00000000000000000000000000000000'`,
		}},
		{name: "a change dropped from the feed", party: vaultDir, structure: true, part: "feed", text: "follows on", do: []string{
			`DELETE FROM vault_change WHERE seq = 1`,
		}},
		{name: "the issuer's signing key", party: loginDir, structure: true, part: "signing key", do: []string{`UPDATE signing_key SET sealed = randomblob(length(sealed))`}},
		{name: "an orphan name", party: platformDir, structure: true, part: "name", text: "What it names does not exist", do: []string{
			`DELETE FROM lake_node WHERE id = ` + large,
		}},
		{name: "a file without a name", party: platformDir, structure: true, part: "file or folder", text: "No name leads to it", do: []string{
			`DELETE FROM lake_entry WHERE id = ` + large,
		}},
		{name: "a folder below itself", party: platformDir, structure: true, part: "folder", text: "below itself", do: []string{
			`UPDATE lake_entry SET folder = id WHERE id = (SELECT id FROM lake_entry WHERE kind = 2 LIMIT 1)`,
		}},
		{name: "a folder without a row", party: platformDir, structure: true, part: "name", text: "no row to hold names", do: []string{
			`DELETE FROM lake_folder WHERE id = (SELECT id FROM lake_entry WHERE kind = 2 LIMIT 1)`,
		}},
		{name: "an extent without a row", party: platformDir, part: "opened extent", text: "has no row", do: []string{
			`DELETE FROM lake_extent WHERE inline IS NULL AND state = 1`,
		}},
		{name: "an extent of another file's", party: platformDir, part: "opened extent", text: "whose manifest does not list it", do: []string{
			`UPDATE lake_extent SET owner = (SELECT n.id FROM lake_node n WHERE n.item = lake_extent.item AND n.kind = 1 AND n.id <> lake_extent.owner LIMIT 1)
				WHERE inline IS NULL AND state = 1`,
		}},
		{name: "an item without keys", party: platformDir, structure: true, part: "database", text: "does not exist", do: []string{
			`DELETE FROM item_key WHERE item = (SELECT id FROM item_entry LIMIT 1)`,
		}},
		{name: "an item without a name", party: platformDir, structure: true, part: "item name", text: "no name leads", do: []string{
			`DELETE FROM item_entry WHERE id = (SELECT id FROM item_entry LIMIT 1)`,
		}},
		{name: "the name of another item", party: platformDir, part: "opened item name", do: moved("item_entry", "record", "workspace = "+guarded)},
		{name: "a definition of another item's", party: platformDir, part: "definition", do: moved("item_definition", "sealed", "1 = 1")},
		{name: "a workspace of another tenant's", party: platformDir, structure: true, part: "workspace", text: "another tenant", do: []string{
			`UPDATE workspace SET tenant = 'somebody' WHERE name = 'plain'`,
		}},
		{name: "a database that is none", structure: true, part: "party", files: func(t *testing.T, data string) {
			path := filepath.Join(data, platformDir, databaseFile)
			if err := errors.Join(os.RemoveAll(path+"-wal"), os.WriteFile(path, bytes.Repeat([]byte("no"), 8192), 0o600)); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(d.name, func(t *testing.T) {
			data := copied(t, origin)
			if d.files != nil {
				d.files(t, data)
			}
			if len(d.do) > 0 {
				damage(t, data, d.party, d.do...)
			}
			r := checked(t, data, func(f *fsck) { f.structureOnly = d.structure })
			for _, f := range r.Findings {
				if f.Part == d.part && strings.Contains(f.Text, d.text) && (f.Party == d.party || d.party == "") {
					return
				}
			}
			t.Errorf("no finding about a %s says %q; there are %d:\n%s", d.part, d.text, r.Total, findings(r))
		})
	}
}

// TestFsckCommand runs the command as a person does.
func TestFsckCommand(t *testing.T) {
	run := func(args ...string) (string, error) {
		var out bytes.Buffer
		c := newCommand()
		c.SetArgs(append([]string{"fsck"}, args...))
		c.SetOut(&out)
		err := c.ExecuteContext(context.Background())
		return out.String(), err
	}
	if _, err := run("--data", t.TempDir()); err == nil || !strings.Contains(err.Error(), "is not a data directory") {
		t.Errorf("an empty directory: %v", err)
	}
	data, _ := populate(t)
	if out, err := run("--data", data); err != nil || !strings.Contains(out, "Nothing is wrong.") {
		t.Errorf("%v\n%s", err, out)
	}
	damage(t, data, platformDir, `DELETE FROM audit_entry WHERE seq = 3`)
	out, err := run("--data", data, "--structure-only", "--output", "json")
	if !errors.Is(err, errNotHolding) || !strings.Contains(out, `"clean": false`) || !strings.Contains(out, `"part": "audit entry"`) {
		t.Errorf("%v\n%s", err, out)
	}
	lock, err := lockDir(data)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := run("--data", data); err == nil || errors.Is(err, errNotHolding) {
		t.Errorf("a directory that is served: %v", err)
	}
}

// copied returns a copy of a data directory.
func copied(t *testing.T, data string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(to, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error { // CopyFS widens the modes
		if err != nil || d.IsDir() {
			return err
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func tables(t *testing.T, data, party string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: filepath.Join(data, party, databaseFile)}).EscapedPath())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// damage changes a party's database behind its back. Each statement must change
// something.
func damage(t *testing.T, data, party string, statements ...string) {
	t.Helper()
	db := tables(t, data, party)
	defer db.Close()
	for _, s := range statements {
		res, err := db.Exec(s)
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		if n, _ := res.RowsAffected(); n == 0 {
			t.Fatalf("%s: nothing to damage", s)
		}
	}
}

// moved puts the sealed column of one row of a table into another's, of those that
// a condition selects.
func moved(table, column, where string) []string {
	return []string{fmt.Sprintf(`UPDATE %[1]s SET %[2]s = (SELECT %[2]s FROM %[1]s WHERE %[3]s ORDER BY rowid DESC LIMIT 1)
		WHERE rowid = (SELECT rowid FROM %[1]s WHERE %[3]s ORDER BY rowid LIMIT 1)`, table, column, where)}
}

// extent returns the file of the first extent.
func extent(t *testing.T, data string) string {
	t.Helper()
	db := tables(t, data, platformDir)
	var id string
	err := db.QueryRow(`SELECT id FROM lake_extent WHERE inline IS NULL AND state = 1 ORDER BY id LIMIT 1`).Scan(&id)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(data, platformDir, extentsDir, id[:2], id[2:4], id)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return path
}
