package workspace

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// The entries that certificates are about.
const (
	shredItem       = "ShredItem"
	shredWorkspace  = "ShredWorkspace"
	revocationDrill = "RecordRevocationDrill"
)

// A Log is the platform's audit log, as far as it gives proof of what it holds. An
// audit.Log is one.
type Log interface {
	Entries(context.Context, audit.Query) ([]audit.Numbered, error)
	Certify(ctx context.Context, sequence int64) (audit.Certificate, error)
}

// noteShredding records, in the transaction that shreds an item, which keys went:
// what a certificate of it rests on.
func noteShredding(tx Tx, c identity.Caller, operation, resource string, item encryption.ItemID) error {
	keys, err := tx.ItemKeys(item)
	if err != nil {
		return err
	}
	ids := make([]string, len(keys))
	for i, k := range keys {
		ids[i] = string(k.ID)
	}
	slices.Sort(ids)
	e := c.Entry(operation, resource)
	e.Detail = map[string]string{"keys": strings.Join(ids, " ")}
	return tx.AppendAudit(e)
}

// Shredding returns the certificate that an item or a workspace, by its id, was
// shredded: the entry that names its keys, and the proof that the audit log holds
// it. It is for who shredded it and for the tenant's auditors; for others, and if
// it was not shredded, it fails with [fault.NotFound]. The search goes through the
// log from its end.
func (w *Workspaces) Shredding(ctx context.Context, c identity.Caller, id string) (cert audit.Certificate, err error) {
	e := c.Entry("GetShreddingCertificate", "/shreddings/"+known(id))
	cert, err = w.shredding(ctx, c, id)
	return cert, w.record(ctx, e, err)
}

func (w *Workspaces) shredding(ctx context.Context, c identity.Caller, id string) (audit.Certificate, error) {
	if w.log == nil {
		return audit.Certificate{}, errNoLog()
	}
	auditor := false
	err := w.store.View(ctx, func(tx Tx) (err error) {
		_, auditor, err = rbac.Check(tx, w.roles, c, rbac.AuditRead, false, "/")
		return err
	})
	if err != nil {
		return audit.Certificate{}, err
	}
	found, err := w.find(ctx, c, func(e audit.Entry) bool {
		return e.Outcome == audit.Allowed && (auditor || e.Principal == string(c.Principal)) &&
			(e.Operation == shredWorkspace && e.Resource == resourceOf(encryption.ScopeID(id)) ||
				e.Operation == shredItem && strings.HasSuffix(e.Resource, "/items/"+id))
	})
	if err != nil {
		return audit.Certificate{}, err
	}
	return w.log.Certify(ctx, found.Sequence)
}

// find returns the newest entry of the caller's tenant about workspaces that is
// wanted.
func (w *Workspaces) find(ctx context.Context, c identity.Caller, wanted func(audit.Entry) bool) (audit.Numbered, error) {
	q := audit.Query{Resource: "/workspaces", Tenant: string(c.Tenant), NewestFirst: true, Limit: 1000}
	for {
		page, err := w.log.Entries(ctx, q)
		if err != nil {
			return audit.Numbered{}, err
		}
		for _, e := range page {
			if wanted(e.Entry) {
				return e, nil
			}
		}
		if len(page) < q.Limit {
			return audit.Numbered{}, fault.New(fault.NotFound, "There is no such certificate, or it is not for you.")
		}
		q.After = &page[len(page)-1].Sequence
	}
}

func errNoLog() error {
	return fault.New(fault.NotSupported, "This platform's audit log gives no certificates.")
}

// A Drill is what a revocation drill has found, in the numbers that its entry in
// the audit log carries.
type Drill struct {
	Workspace encryption.ScopeID
	Report    []byte // SHA-256 of the whole report, which its maker keeps
	Trials    int
	Dark      int64 // milliseconds: the slowest trial's until nothing could be read, written or listed
	Back      int64 // milliseconds: the slowest trial's until everything could again
}

// RecordDrill records a drill in the audit log, and returns the proof of it: with
// the report, the drill's evidence. The platform vouches for when it was told, by
// whom and what; the measurements are their maker's. It is for the workspace's
// admin, while the workspace is under the key: which one, the platform knows itself.
func (w *Workspaces) RecordDrill(ctx context.Context, c identity.Caller, d Drill) (audit.Certificate, error) {
	e := c.Entry(revocationDrill, resourceOf(d.Workspace))
	e.Detail = map[string]string{}
	sum := hex.EncodeToString(d.Report)
	err := w.write(ctx, e, func(tx Tx) error {
		if _, err := w.permit(tx, c, rbac.EncryptionWrite, d.Workspace); err != nil {
			return err
		}
		switch {
		case w.log == nil:
			return errNoLog()
		case len(d.Report) != sha256.Size || d.Trials < 1 || d.Dark < 0 || d.Back < 0:
			return fault.New(fault.InvalidArgument, "A drill needs the SHA-256 of its report, at least one trial, and times that are not below 0.")
		}
		sc, err := tx.Scope(d.Workspace)
		if err != nil {
			return err
		}
		all, err := tx.Generations(d.Workspace)
		if err != nil {
			return err
		}
		for _, g := range all {
			if g.Number == sc.Sealing && g.KeyIdentifier != "" {
				e.Detail["key"] = g.KeyIdentifier
			}
		}
		if e.Detail["key"] == "" {
			return fault.New(fault.Conflict, "The workspace is under no customer's key that could have been taken away.").About(string(d.Workspace))
		}
		e.Detail["sha256"], e.Detail["trials"] = sum, strconv.Itoa(d.Trials)
		e.Detail["darkMilliseconds"], e.Detail["backMilliseconds"] = strconv.FormatInt(d.Dark, 10), strconv.FormatInt(d.Back, 10)
		return nil
	})
	if err != nil {
		return audit.Certificate{}, err
	}
	found, err := w.find(ctx, c, func(e audit.Entry) bool {
		return e.Operation == revocationDrill && e.Outcome == audit.Allowed && e.Principal == string(c.Principal) && e.Detail["sha256"] == sum
	})
	if err != nil {
		return audit.Certificate{}, err
	}
	return w.log.Certify(ctx, found.Sequence)
}
