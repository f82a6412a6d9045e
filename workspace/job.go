package workspace

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/failpoint"
	"github.com/kluis-io/kluis/rbac"
)

var logsDone = failpoint.New("workspace/reencrypt/logs-done")

// logPurpose is that of one piece of a job's log, sealed under the item's content
// key for its job and number.
const logPurpose = "kluis/v1/job-log"

// Limits of a job's log, in bytes.
const (
	MaxLogPiece = 1 << 20  // that one call appends
	MaxLog      = 16 << 20 // of a whole log
)

// A JobID is the id of one run of an item's job, a UUID.
type JobID string

// A JobStatus says how far a run is.
type JobStatus string

// The statuses of a run, in Fabric's words:
// https://learn.microsoft.com/rest/api/fabric/core/job-scheduler/get-item-job-instance
const (
	JobNotStarted JobStatus = "NotStarted"
	JobInProgress JobStatus = "InProgress"
	JobCompleted  JobStatus = "Completed"
	JobFailed     JobStatus = "Failed"
	JobCancelled  JobStatus = "Cancelled"
)

// over reports whether nothing comes after the status.
func (s JobStatus) over() bool { return s == JobCompleted || s == JobFailed || s == JobCancelled }

// A Job is one run of an item's job. kluis runs none itself: whoever runs it says
// how far it is, and appends to its log.
type Job struct {
	ID      JobID
	Item    encryption.ItemID
	Type    string // "RunNotebook", say
	Invoked string // "Manual"
	Status  JobStatus
	Started time.Time
	Ended   time.Time // zero until then
}

// A LogRow is a piece of a job's log as the database holds it.
type LogRow struct {
	Job    JobID
	Number int64 // from 0
	Item   encryption.ItemID
	Key    encryption.KeyID
	Sealed []byte
}

func jobResource(ws encryption.ScopeID, item encryption.ItemID, id JobID) string {
	return itemResource(ws, item) + "/jobs/" + known(string(id))
}

// itemJob returns a run of one of the workspace's items.
func itemJob(tx Tx, ws encryption.ScopeID, item encryption.ItemID, id JobID) (Job, error) {
	if _, err := liveEntry(tx, ws, item); err != nil {
		return Job{}, err
	}
	j, err := tx.ItemJob(id)
	if err == nil && j.Item != item {
		err = fault.New(fault.NotFound, "The item has no such job instance.").About(string(id))
	}
	return j, err
}

// StartJob notes that one of an item's jobs is to run. It fails while the
// workspace's key cannot be used, as the job would.
func (w *Workspaces) StartJob(ctx context.Context, c identity.Caller, ws encryption.ScopeID, item encryption.ItemID, jobType string) (Job, error) {
	j := Job{ID: JobID(uuid.NewString()), Item: item, Type: jobType, Invoked: "Manual", Status: JobNotStarted, Started: w.time()}
	e := c.Entry("RunItemJob", jobResource(ws, item, j.ID))
	err := w.store.View(ctx, func(tx Tx) error {
		if _, err := w.permit(tx, c, rbac.ItemsWrite, ws); err != nil {
			return err
		}
		if jobType == "" || len(jobType) > 64 || strings.Trim(jobType, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
			return fault.New(fault.InvalidArgument, "A job's type is a word of at most 64 letters and digits.")
		}
		_, err := liveEntry(tx, ws, item)
		return err
	})
	var u *encryption.Use
	if err == nil {
		u, err = w.keys.Use(ctx, ws)
	}
	if err != nil {
		return Job{}, w.record(ctx, e, err)
	}
	return j, w.write(ctx, e, func(tx Tx) error {
		if _, err := w.permit(tx, c, rbac.ItemsWrite, ws); err != nil {
			return err
		}
		if _, err := liveEntry(tx, ws, item); err != nil {
			return err
		}
		if err := u.Confirm(tx); err != nil {
			return err
		}
		return tx.PutItemJob(j)
	})
}

// Job returns one run.
func (w *Workspaces) Job(ctx context.Context, c identity.Caller, ws encryption.ScopeID, item encryption.ItemID, id JobID) (j Job, err error) {
	err = w.read(ctx, c, "GetItemJobInstance", jobResource(ws, item, id), func(tx Tx) error {
		if _, err := w.permit(tx, c, rbac.ItemsRead, ws); err != nil {
			return err
		}
		j, err = itemJob(tx, ws, item, id)
		return err
	})
	return j, err
}

// Jobs returns the runs of an item's jobs by id, at most limit of those above after.
// more tells whether there are others.
func (w *Workspaces) Jobs(ctx context.Context, c identity.Caller, ws encryption.ScopeID, item encryption.ItemID, after JobID, limit int) (page []Job, more bool, err error) {
	err = w.read(ctx, c, "ListItemJobInstances", itemResource(ws, item), func(tx Tx) error {
		if _, err := w.permit(tx, c, rbac.ItemsRead, ws); err != nil {
			return err
		}
		if _, err := liveEntry(tx, ws, item); err != nil {
			return err
		}
		all, err := tx.ItemJobs(item, after, limit+1)
		more, page = len(all) > limit, all[:min(len(all), limit)]
		return err
	})
	return page, more, err
}

// SetJobStatus says how far a run is. One that is over stays as it is.
func (w *Workspaces) SetJobStatus(ctx context.Context, c identity.Caller, ws encryption.ScopeID, item encryption.ItemID, id JobID, s JobStatus) (j Job, err error) {
	e := c.Entry("UpdateItemJobInstance", jobResource(ws, item, id))
	if s == JobCancelled {
		e.Operation = "CancelItemJobInstance"
	}
	err = w.write(ctx, e, func(tx Tx) error {
		if _, err := w.permit(tx, c, rbac.ItemsWrite, ws); err != nil {
			return err
		}
		if s != JobInProgress && !s.over() {
			return fault.New(fault.InvalidArgument, "The status must be one of InProgress, Completed, Failed and Cancelled.")
		}
		if j, err = itemJob(tx, ws, item, id); err != nil {
			return err
		}
		if j.Status.over() {
			return fault.New(fault.Conflict, "The job is over.").About(string(id))
		}
		if j.Status = s; s.over() {
			j.Ended = w.time()
		}
		return tx.PutItemJob(j)
	})
	return j, err
}

// AppendJobLog appends a piece to a run's log, sealed under the item's key.
func (w *Workspaces) AppendJobLog(ctx context.Context, c identity.Caller, ws encryption.ScopeID, item encryption.ItemID, id JobID, piece []byte) error {
	e := c.Entry("AppendItemJobLog", jobResource(ws, item, id))
	err := again(ctx, func() error { return w.appendLog(ctx, c, e, ws, item, id, piece) })
	if err != nil {
		return w.record(ctx, e, err)
	}
	return nil
}

func (w *Workspaces) appendLog(ctx context.Context, c identity.Caller, e audit.Entry, ws encryption.ScopeID, item encryption.ItemID, id JobID, piece []byte) error {
	if len(piece) > MaxLogPiece {
		return fault.New(fault.PayloadTooLarge, "A piece of a log is at most 1 MiB.")
	}
	row := LogRow{Job: id, Item: item}
	admit := func(tx Tx) error {
		if _, err := w.permit(tx, c, rbac.ItemsWrite, ws); err != nil {
			return err
		}
		if _, err := itemJob(tx, ws, item, id); err != nil {
			return err
		}
		n, sealed, err := tx.JobLogSize(id)
		if err == nil && sealed+int64(len(piece)) > MaxLog {
			err = fault.New(fault.PayloadTooLarge, "The log of one job is at most 16 MiB.")
		}
		if err == nil && row.Sealed != nil && row.Number != n {
			err = fault.New(fault.EncryptionChanged, "Somebody else has appended to the log.").WithMend("Try again.")
		}
		row.Number = n
		return err
	}
	if err := w.store.View(ctx, admit); err != nil {
		return err
	}
	u, err := w.keys.Use(ctx, ws)
	if err != nil {
		return err
	}
	if err := row.seal(ctx, u, piece); err != nil {
		return err
	}
	return w.update(ctx, e, func(tx Tx) error {
		if err := admit(tx); err != nil {
			return err
		}
		if err := u.Confirm(tx, row.Key); err != nil {
			return err
		}
		return tx.PutJobLog(row)
	})
}

func (r *LogRow) seal(ctx context.Context, u *encryption.Use, piece []byte) error {
	k, err := u.Current(ctx, r.Item, encryption.ContentKey)
	if err != nil {
		return err
	}
	r.Key = k.ID()
	r.Sealed, err = k.Seal(piece, logPurpose, string(r.Job), strconv.FormatInt(r.Number, 10))
	return err
}

func (r LogRow) open(ctx context.Context, u *encryption.Use) ([]byte, error) {
	k, err := u.Key(ctx, r.Item, r.Key)
	if err != nil {
		return nil, err
	}
	return k.Open(r.Sealed, logPurpose, string(r.Job), strconv.FormatInt(r.Number, 10))
}

// JobLog returns what a run has logged so far. It tells what the item's data is, so
// only who may write the item reads it.
func (w *Workspaces) JobLog(ctx context.Context, c identity.Caller, ws encryption.ScopeID, item encryption.ItemID, id JobID) (text []byte, err error) {
	err = w.opening(ctx, c, "GetItemJobLog", jobResource(ws, item, id), rbac.ItemsWrite, ws, func(u *encryption.Use) error {
		return again(ctx, func() error {
			var rows []LogRow
			err := w.store.View(ctx, func(tx Tx) error {
				if _, err := itemJob(tx, ws, item, id); err != nil {
					return err
				}
				rows, err = tx.JobLog(id, 0, 0)
				return err
			})
			if err != nil {
				return err
			}
			var b bytes.Buffer
			for _, r := range rows {
				piece, err := r.open(ctx, u)
				if err != nil {
					return w.logMoved(ctx, r, err)
				}
				b.Write(piece)
				clear(piece)
			}
			text = b.Bytes()
			return u.Check()
		})
	})
	return text, err
}

// logMoved returns [fault.EncryptionChanged] if a piece is not under the row's key
// any more, and err else.
func (w *Workspaces) logMoved(ctx context.Context, r LogRow, err error) error {
	var now []LogRow
	view := w.store.View(ctx, func(tx Tx) (err error) {
		now, err = tx.JobLog(r.Job, r.Number, 1)
		return err
	})
	if view == nil && len(now) == 1 && now[0].Key != r.Key {
		return errMoved()
	}
	return err
}

func keysOf(rows []LogRow) (ids []encryption.KeyID) {
	for _, r := range rows {
		if !slices.Contains(ids, r.Key) {
			ids = append(ids, r.Key)
		}
	}
	return ids
}

// logBatch is how many pieces of logs one transaction re-encrypts; each is at most
// [MaxLogPiece].
const logBatch = 8

// reencryptLogs brings the logs of an item's jobs under its current key.
func (w *Workspaces) reencryptLogs(ctx context.Context, job *encryption.Job) error {
	for {
		if err := job.Check(); err != nil {
			return err
		}
		current, err := job.Use.Current(ctx, job.Item, encryption.ContentKey)
		if err != nil {
			return err
		}
		var rows []LogRow
		err = w.store.View(ctx, func(tx Tx) (err error) {
			rows, err = tx.JobLogsUnder(job.Item, current.ID(), logBatch)
			return err
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		sealed := make([]LogRow, len(rows))
		for i, r := range rows {
			piece, err := r.open(ctx, job.Use)
			if err != nil {
				return err
			}
			sealed[i] = r
			err = sealed[i].seal(ctx, job.Use, piece)
			clear(piece)
			if err != nil {
				return err
			}
		}
		err = w.store.Update(ctx, func(tx Tx) error {
			if err := job.Confirm(tx, keysOf(sealed)...); err != nil {
				return err
			}
			for _, r := range sealed {
				if _, err := tx.ItemJob(r.Job); fault.ReasonOf(err) == fault.NotFound {
					continue // shredded since
				} else if err != nil {
					return err
				}
				if err := tx.PutJobLog(r); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := logsDone.Hit(); err != nil {
			return err
		}
	}
}
