package lake_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/rbac"
)

// scrub scrubs until a pass has ended, and returns what the status is then.
func (p *platform) scrub(t *testing.T) lake.ScrubStatus {
	t.Helper()
	p.now.Add(15 * 24) // the next pass is due
	for range 200 {
		_, err := p.ScrubStep(t.Context())
		must(t, err)
		if st := p.scrubStatus(t); !st.Running {
			return st
		}
	}
	t.Fatal("the scrub does not end")
	return lake.ScrubStatus{}
}

var auditor = identity.Caller{Tenant: tenant, Principal: "77777777-7777-4777-8777-777777777777", Type: identity.User}

func (p *platform) scrubStatus(t *testing.T) lake.ScrubStatus {
	t.Helper()
	st, err := p.ScrubStatus(t.Context(), auditor)
	must(t, err)
	return st
}

// scrubbed is a platform whose auditor may see what the scrub does.
func scrubbed(t *testing.T) *platform {
	p := start(t, t.TempDir())
	must(t, p.db.Roles().Update(t.Context(), func(tx rbac.Tx) error {
		return tx.PutRoleAssignment(rbac.Assignment{
			ID: "88888888-8888-4888-8888-888888888888", Tenant: tenant, Principal: auditor.Principal, PrincipalType: identity.User,
			Role: rbac.Auditor, Scope: "/", Created: time.Now(),
		})
	}))
	return p
}

// flip changes one byte in the middle of the largest object on the disk.
func (p *platform) flip(t *testing.T) (undo func()) {
	t.Helper()
	all := p.stored(t)
	largest := ""
	for id, b := range all {
		if len(b) > len(all[largest]) {
			largest = id
		}
	}
	b := all[largest]
	turn := func() {
		b[len(b)/2] ^= 1
		p.replace(t, largest, b)
	}
	turn()
	return turn
}

// Everything is read in a pass: small content in rows, large in objects, blocks that
// are not committed.
func TestScrubReadsAll(t *testing.T) {
	p := scrubbed(t)
	defer lake.SetMaxExtent(100_000)()
	p.put(t, "Files/small", []byte("small"))
	p.put(t, "Files/large", bytes.Repeat([]byte("large"), 70_000)) // 4 extents
	_, err := p.StageBlock(t.Context(), p.caller, at("Files/blocks"), "b1", bytes.NewReader(make([]byte, 50_000)), 50_000, lake.StageOptions{})
	must(t, err)
	st := p.scrub(t)
	if st.Last.Extents != 6 || st.Last.Bytes != st.Total || st.Last.Unread != 0 || len(st.Damaged) != 0 {
		t.Errorf("%+v", st)
	}
	// No other pass begins before it is due.
	wait, err := p.ScrubStep(t.Context())
	must(t, err)
	if wait != time.Hour || p.scrubStatus(t).Running {
		t.Errorf("another pass begins in %v", wait)
	}
	if _, err := p.ScrubStatus(t.Context(), p.caller); fault.ReasonOf(err) != fault.Denied {
		t.Errorf("a workspace's admin sees the installation's status: %v", err)
	}
}

// A flipped bit on the disk is found, recorded once, an alert, and shown until the
// extent is gone.
func TestScrubFindsDamage(t *testing.T) {
	p := scrubbed(t)
	p.put(t, "Files/whole", bytes.Repeat([]byte("w"), 40_000))
	p.put(t, "Files/hurt", bytes.Repeat([]byte("h"), 60_000))
	p.flip(t)
	if st := p.scrub(t); len(st.Damaged) != 1 || st.Damaged[0].Item != lakeID || st.Last.Extents != 2 {
		t.Fatalf("%+v", st)
	}
	entries := p.entries(t, lake.OpDamaged)
	if len(entries) != 1 || !lake.Alerts(entries[0], string(tenant)) || lake.Alerts(entries[0], "another") {
		t.Errorf("recorded: %+v", entries)
	}
	if st := p.scrub(t); len(st.Damaged) != 1 || len(p.entries(t, lake.OpDamaged)) != 1 {
		t.Errorf("found again: %+v", st)
	}
	_, err := p.get(t.Context(), "Files/hurt", lake.Range{})
	wantReason(t, err, fault.Integrity)
	p.recorder.mu.Lock()
	if last := p.recorder.last; !lake.Alerts(last, string(tenant)) {
		t.Errorf("a read that met damage is recorded as %+v", last)
	}
	p.recorder.mu.Unlock()
	must(t, p.Delete(t.Context(), p.caller, at("Files/hurt"), false, lake.Conditions{}))
	if st := p.scrub(t); len(st.Damaged) != 0 {
		t.Errorf("what was deleted is still shown as damaged: %+v", st)
	}
}

// Damage to content in a row is found even while the platform remembers the row.
func TestScrubReadsRowsFromTheDisk(t *testing.T) {
	p := scrubbed(t)
	p.put(t, "Files/small", []byte("remembered"))
	p.wantContent(t, "Files/small", []byte("remembered"))
	p.damageRows(t)
	if st := p.scrub(t); len(st.Damaged) != 1 {
		t.Errorf("%+v", st)
	}
}

// A scrub that is stopped goes on where it was; what lies under a key that is
// refused is counted as unread, and nothing is found wrong with it.
func TestScrubGoesOn(t *testing.T) {
	p := scrubbed(t)
	for _, name := range []string{"a", "b", "c"} {
		p.put(t, "Files/"+name, bytes.Repeat([]byte(name), 30_000))
	}
	restore := lake.SetScrubStep(1)
	p.now.Add(15 * 24)
	for range 2 {
		_, err := p.ScrubStep(t.Context())
		must(t, err)
	}
	before := p.scrubStatus(t)
	if before.Pass.Extents != 2 || !before.Running {
		t.Fatalf("%+v", before)
	}
	must(t, p.db.Close())
	p.open(t)
	restore()
	for range 4 {
		_, err := p.ScrubStep(t.Context())
		must(t, err)
	}
	if st := p.scrubStatus(t); st.Running || st.Last.Extents != 3 || !st.Last.Begun.Equal(before.Pass.Begun) {
		t.Errorf("%+v", st)
	}
	p.assign(t)
	p.vault.no.Store(true)
	must(t, p.db.Encryption().Update(t.Context(), func(tx encryption.Tx) error {
		s, err := tx.Scope(wsID)
		s.Serving, s.Reason = encryption.Revoked, fault.KEKRefused
		s.Serial++
		return errors.Join(err, tx.UpdateScope(s, s.Epoch))
	}))
	must(t, p.db.Close())
	p.open(t)
	if st := p.scrub(t); st.Last.Unread != 3 || st.Last.Extents != 0 || len(st.Damaged) != 0 {
		t.Errorf("%+v", st)
	}
}

// damageRows changes the content in rows behind the platform's back.
func (p *platform) damageRows(t *testing.T) {
	t.Helper()
	must(t, p.db.Exec(t.Context(), "UPDATE lake_extent SET inline = substr(inline, 2) WHERE inline IS NOT NULL"))
}

// entries returns the audit log's entries of an operation.
func (p *platform) entries(t *testing.T, operation string) (all []audit.Entry) {
	t.Helper()
	must(t, p.db.Audit().View(t.Context(), func(tx audit.Tx) error {
		records, err := tx.AuditRecords(0, 10_000)
		for _, r := range records {
			var e audit.Entry
			if err := json.Unmarshal(r.Body, &e); err != nil {
				return err
			}
			if e.Operation == operation {
				all = append(all, e)
			}
		}
		return err
	}))
	return all
}
