package governance

import (
	"context"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/posture/alert"
	"github.com/kluis-io/kluis/posture/history"
	"github.com/kluis-io/kluis/posture/kpi"
	"github.com/kluis-io/kluis/rbac"
)

// mostNote bounds an acknowledgement's note, in bytes.
const mostNote = 1000

// Acknowledge notes that the caller knows of an alert, named by its id or the beginning
// of one, for a time of at most 90 days. The log has who, when and for how long; the
// note stays with the alert.
func (r *Records) Acknowledge(ctx context.Context, c identity.Caller, id, note string, length time.Duration) (a alert.Alert, err error) {
	now := r.now()
	ack := alert.Ack{By: string(c.Principal), Note: note, At: now, Until: now.Add(length)}
	e := c.Entry("AcknowledgeAlert", "/alerts/"+identifier(id))
	e.Detail = map[string]string{"until": ack.Until.Format(time.RFC3339)}
	return a, r.write(ctx, &e, func(tx Tx) error {
		if err := r.permit(tx, c, rbac.AlertsAcknowledge); err != nil {
			return err
		}
		if len(note) > mostNote {
			return fault.New(fault.InvalidArgument, "A note has at most 1000 bytes.")
		}
		if a, err = alert.AcknowledgeIn(tx, id, ack); err == nil {
			e.Resource = "/alerts/" + a.ID
		}
		return err
	})
}

// RunScan has the estate scanned now, and keeps what was found.
func (r *Records) RunScan(ctx context.Context, c identity.Caller) (s history.Scan, err error) {
	return s, r.long(ctx, c, rbac.ScansRun, c.Entry("RunScan", "/scans"), func() error {
		found, err := r.look(ctx)
		if err == nil {
			s, err = history.Record(ctx, keeper{r.Store}, found.Estate, found.Source, found.Scan)
		}
		return err
	})
}

// Evidence has the estate scanned, and returns the signed archive of what was found with
// the history, the figures of the window and extracts of the logs. What was found is in
// the archive alone: the history is that of the scans before.
func (r *Records) Evidence(ctx context.Context, c identity.Caller, w kpi.Window) (archive []byte, err error) {
	return archive, r.long(ctx, c, rbac.EvidenceMake, c.Entry("MakeEvidencePack", "/evidence"), func() error {
		found, err := r.look(ctx)
		if err == nil {
			archive, err = r.pack(ctx, found, w)
		}
		return err
	})
}

// long runs an act that takes no transaction. Its entry is written before it begins; one
// that fails then has another.
func (r *Records) long(ctx context.Context, c identity.Caller, a rbac.Action, e audit.Entry, act func() error) error {
	err := r.Store.View(ctx, func(tx Tx) error { return r.permit(tx, c, a) })
	if err := r.record(ctx, e, err); err != nil {
		return err
	}
	if err := act(); err != nil {
		return r.record(ctx, e, err)
	}
	return nil
}

// look scans. Scans that are asked for run one at a time.
func (r *Records) look(ctx context.Context) (f Found, err error) {
	if r.Look == nil {
		return f, fault.New(fault.NotSupported, "This server was not told what to scan, and as whom.").
			WithMend("Have its operator name a profile under posture in the configuration file.")
	}
	select {
	case r.looking <- struct{}{}:
		defer func() { <-r.looking }()
	default:
		return f, fault.New(fault.Throttled, "A scan is under way: ask again when it is done.")
	}
	var accepted []Exception
	err = r.Store.View(ctx, func(tx Tx) error {
		accepted, err = tx.Exceptions()
		return err
	})
	if err != nil {
		return f, err
	}
	return r.Look(ctx, Accepted(accepted))
}

func (r *Records) pack(ctx context.Context, found Found, w kpi.Window) ([]byte, error) {
	p := Pack{Found: found, Window: w}
	err := r.Store.View(ctx, func(tx Tx) (err error) {
		p.Input, err = kpi.Read(tx, found.Estate)
		return err
	})
	if err == nil {
		err = r.Logs(ctx, w.From, &p.Input)
	}
	if err != nil {
		return nil, err
	}
	return r.Seal(ctx, p)
}

// A keeper is the store as package history wants it.
type keeper struct{ store Store }

func (k keeper) View(ctx context.Context, fn func(history.Tx) error) error {
	return k.store.View(ctx, func(tx Tx) error { return fn(tx) })
}

func (k keeper) Update(ctx context.Context, fn func(history.Tx) error) error {
	return k.store.Update(ctx, func(tx Tx) error { return fn(tx) })
}
