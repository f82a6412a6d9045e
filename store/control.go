package store

import (
	"database/sql"
	"errors"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/workspace"
)

// absent gives a missing row its reason.
func absent(err error, r fault.Reason, detail, subject string) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fault.New(r, detail).About(subject)
	}
	return err
}

const labelColumns = `id, tenant, name, requires_cmk, created`

func scanLabel(scan func(...any) error) (l workspace.Label, err error) {
	var created int64
	err = scan(&l.ID, &l.Tenant, &l.Name, &l.RequiresCMK, &created)
	l.Created = fromMicros(created)
	return l, err
}

// Label implements [workspace.Tx].
func (t *Tx) Label(id workspace.LabelID) (workspace.Label, error) {
	l, err := scanLabel(func(into ...any) error {
		return t.row(`SELECT `+labelColumns+` FROM label WHERE id = $1`, []any{string(id)}, into...)
	})
	return l, absent(err, fault.NotFound, "There is no such label.", string(id))
}

// TenantLabels implements [workspace.Tx].
func (t *Tx) TenantLabels(tenant identity.TenantID) ([]workspace.Label, error) {
	return many(t, scanLabel, `SELECT `+labelColumns+` FROM label WHERE tenant = $1 ORDER BY id`, string(tenant))
}

// PutLabel implements [workspace.Tx].
func (t *Tx) PutLabel(l workspace.Label) error {
	_, err := t.exec(`INSERT INTO label (id, tenant, name, canonical, requires_cmk, created) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, canonical = excluded.canonical, requires_cmk = excluded.requires_cmk`,
		string(l.ID), string(l.Tenant), l.Name, workspace.Canonical(l.Name), l.RequiresCMK, micros(l.Created))
	return conflict(err, "The tenant has a label of that name, in this or another case.")
}

// DeleteLabel implements [workspace.Tx].
func (t *Tx) DeleteLabel(id workspace.LabelID) error {
	_, err := t.exec(`DELETE FROM label WHERE id = $1`, string(id))
	return err
}

// LabelUsed implements [workspace.Tx].
func (t *Tx) LabelUsed(id workspace.LabelID) (used bool, err error) {
	err = t.row(`SELECT EXISTS (SELECT 1 FROM workspace WHERE label = $1 AND deleted = 0)
		OR EXISTS (SELECT 1 FROM domain WHERE label = $1) OR EXISTS (SELECT 1 FROM item_entry WHERE label = $1)`,
		[]any{string(id)}, &used)
	return used, err
}

// ItemLabels implements [workspace.Tx].
func (t *Tx) ItemLabels(ws encryption.ScopeID) (out []workspace.LabelID, err error) {
	err = t.rows(`SELECT DISTINCT label FROM item_entry WHERE workspace = $1 AND label <> '' ORDER BY label`, []any{string(ws)},
		func(scan func(...any) error) error {
			var l workspace.LabelID
			err := scan(&l)
			out = append(out, l)
			return err
		})
	return out, err
}

const domainColumns = `id, tenant, name, description, label, created`

func scanDomain(scan func(...any) error) (d workspace.Domain, err error) {
	var created int64
	err = scan(&d.ID, &d.Tenant, &d.Name, &d.Description, &d.Label, &created)
	d.Created = fromMicros(created)
	return d, err
}

// Domain implements [workspace.Tx].
func (t *Tx) Domain(id workspace.DomainID) (workspace.Domain, error) {
	d, err := scanDomain(func(into ...any) error {
		return t.row(`SELECT `+domainColumns+` FROM domain WHERE id = $1`, []any{string(id)}, into...)
	})
	return d, absent(err, fault.NotFound, "There is no such domain.", string(id))
}

// TenantDomains implements [workspace.Tx].
func (t *Tx) TenantDomains(tenant identity.TenantID) ([]workspace.Domain, error) {
	return many(t, scanDomain, `SELECT `+domainColumns+` FROM domain WHERE tenant = $1 ORDER BY id`, string(tenant))
}

// PutDomain implements [workspace.Tx].
func (t *Tx) PutDomain(d workspace.Domain) error {
	_, err := t.exec(`INSERT INTO domain (id, tenant, name, canonical, description, label, created) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, canonical = excluded.canonical, description = excluded.description,
		label = excluded.label`,
		string(d.ID), string(d.Tenant), d.Name, workspace.Canonical(d.Name), d.Description, string(d.Label), micros(d.Created))
	return conflict(err, "The tenant has a domain of that name, in this or another case.")
}

// DeleteDomain implements [workspace.Tx].
func (t *Tx) DeleteDomain(id workspace.DomainID) error {
	_, err := t.exec(`DELETE FROM domain WHERE id = $1`, string(id))
	return err
}

// DomainWorkspaces implements [workspace.Tx].
func (t *Tx) DomainWorkspaces(id workspace.DomainID) ([]workspace.WorkspaceRow, error) {
	return many(t, scanWorkspace, `SELECT `+workspaceColumns+` FROM workspace WHERE domain = $1 AND deleted = 0 ORDER BY id`, string(id))
}

const operationColumns = `id, tenant, principal, kind, workspace, item, generation, created, ended, failure`

// Operation implements [workspace.Tx].
func (t *Tx) Operation(id workspace.OperationID) (o workspace.Operation, err error) {
	var created, ended int64
	err = t.row(`SELECT `+operationColumns+` FROM operation WHERE id = $1`, []any{string(id)},
		&o.ID, &o.Tenant, &o.Principal, &o.Kind, &o.Workspace, &o.Item, &o.Generation, &created, &ended, &o.Failure)
	o.Created, o.Ended = fromMicros(created), fromMicros(ended)
	return o, absent(err, fault.OperationNotFound, "There is no such operation.", string(id))
}

// PutOperation implements [workspace.Tx].
func (t *Tx) PutOperation(o workspace.Operation) error {
	_, err := t.exec(`INSERT INTO operation (`+operationColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		ON CONFLICT (id) DO UPDATE SET ended = excluded.ended, failure = excluded.failure`,
		string(o.ID), string(o.Tenant), string(o.Principal), string(o.Kind), string(o.Workspace), string(o.Item), o.Generation,
		micros(o.Created), micros(o.Ended), string(o.Failure))
	return err
}

// DeleteOperations implements [workspace.Tx].
func (t *Tx) DeleteOperations(before time.Time) error {
	_, err := t.exec(`DELETE FROM operation WHERE created < $1`, micros(before))
	return err
}

const jobColumns = `id, item, type, invoked, status, started, ended`

func scanJob(scan func(...any) error) (j workspace.Job, err error) {
	var started, ended int64
	err = scan(&j.ID, &j.Item, &j.Type, &j.Invoked, &j.Status, &started, &ended)
	j.Started, j.Ended = fromMicros(started), fromMicros(ended)
	return j, err
}

// ItemJob implements [workspace.Tx].
func (t *Tx) ItemJob(id workspace.JobID) (workspace.Job, error) {
	j, err := scanJob(func(into ...any) error {
		return t.row(`SELECT `+jobColumns+` FROM item_job WHERE id = $1`, []any{string(id)}, into...)
	})
	return j, absent(err, fault.NotFound, "The item has no such job instance.", string(id))
}

// ItemJobs implements [workspace.Tx].
func (t *Tx) ItemJobs(item encryption.ItemID, after workspace.JobID, limit int) ([]workspace.Job, error) {
	return many(t, scanJob, `SELECT `+jobColumns+` FROM item_job WHERE item = $1 AND id > $2 ORDER BY id LIMIT $3`,
		string(item), string(after), unlimited(limit))
}

// PutItemJob implements [workspace.Tx].
func (t *Tx) PutItemJob(j workspace.Job) error {
	_, err := t.exec(`INSERT INTO item_job (`+jobColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (id) DO UPDATE SET status = excluded.status, ended = excluded.ended`,
		string(j.ID), string(j.Item), j.Type, j.Invoked, string(j.Status), micros(j.Started), micros(j.Ended))
	return err
}

const logColumns = `job, number, item, key, sealed`

func scanLog(scan func(...any) error) (l workspace.LogRow, err error) {
	err = scan(&l.Job, &l.Number, &l.Item, &l.Key, &l.Sealed)
	return l, err
}

// JobLog implements [workspace.Tx].
func (t *Tx) JobLog(job workspace.JobID, from int64, limit int) ([]workspace.LogRow, error) {
	return many(t, scanLog, `SELECT `+logColumns+` FROM item_job_log WHERE job = $1 AND number >= $2 ORDER BY number LIMIT $3`,
		string(job), from, unlimited(limit))
}

// JobLogSize implements [workspace.Tx].
func (t *Tx) JobLogSize(job workspace.JobID) (rows, sealed int64, err error) {
	err = t.row(`SELECT count(*), coalesce(sum(length(sealed)), 0) FROM item_job_log WHERE job = $1`, []any{string(job)}, &rows, &sealed)
	return rows, sealed, err
}

// JobLogsUnder implements [workspace.Tx].
func (t *Tx) JobLogsUnder(item encryption.ItemID, other encryption.KeyID, limit int) ([]workspace.LogRow, error) {
	return many(t, scanLog, `SELECT `+logColumns+` FROM item_job_log WHERE item = $1 AND key <> $2 ORDER BY job, number LIMIT $3`,
		string(item), string(other), limit)
}

// PutJobLog implements [workspace.Tx].
func (t *Tx) PutJobLog(l workspace.LogRow) error {
	_, err := t.exec(`INSERT INTO item_job_log (`+logColumns+`) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (job, number) DO UPDATE SET key = excluded.key, sealed = excluded.sealed`,
		string(l.Job), l.Number, string(l.Item), string(l.Key), l.Sealed)
	return err
}
