package account

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// A BlobService is how an account's Blob and DFS endpoints are set up, as far as their
// clients may say. See
// https://learn.microsoft.com/rest/api/storageservices/set-blob-service-properties.
type BlobService struct {
	Logging       Logging
	HourMetrics   Metrics
	MinuteMetrics Metrics
	CORS          []CORSRule `json:",omitempty"` // in the order in which they are asked
	Version       string     `json:",omitempty"` // of requests that name none; "" if there is no such
}

// Logging is what a client wishes to be logged. It is kept for clients and decides
// nothing: all of it goes to the audit log anyway, and stays there.
type Logging struct {
	Version             string // "1.0" or "2.0"; "" is "1.0"
	Delete, Read, Write bool
	Retention           Retention
}

// Metrics is what a client wishes to be measured. It is kept for clients, like Logging.
type Metrics struct {
	Version   string // "1.0"; "" is that too
	Enabled   bool
	APIs      bool
	Retention Retention
}

// Retention says for how long something is kept.
type Retention struct {
	Enabled bool
	Days    int // 1 to 365, 0 unless Enabled
}

// A BlobServiceChange is what is asked of a BlobService. What is nil stays as it is.
type BlobServiceChange struct {
	Logging       *Logging
	HourMetrics   *Metrics
	MinuteMetrics *Metrics
	CORS          *[]CORSRule
	Version       *string

	// DeleteRetention and StaticWebsite can only be off.
	DeleteRetention *Retention
	StaticWebsite   *bool
}

// maxRetention is the longest retention in days.
const maxRetention = 365

func (r Retention) check() error {
	if r.Enabled && (r.Days < 1 || r.Days > maxRetention) || !r.Enabled && r.Days != 0 {
		return fault.New(fault.InvalidArgument, "A retention policy that is enabled has between 1 and 365 days, and another has none.")
	}
	return nil
}

func (m Metrics) check() error {
	switch {
	case m.Version != "" && m.Version != "1.0":
		return fault.New(fault.InvalidArgument, "The version of metrics is 1.0.")
	case m.APIs && !m.Enabled:
		return fault.New(fault.InvalidArgument, "Metrics include APIs only if they are enabled.")
	}
	return m.Retention.check()
}

func (l Logging) check() error {
	if l.Version != "" && l.Version != "1.0" && l.Version != "2.0" {
		return fault.New(fault.InvalidArgument, "The version of logging is 1.0 or 2.0.")
	}
	return l.Retention.check()
}

// check refuses what is not well-formed, and what would promise what is not there.
func (c BlobServiceChange) check() error {
	var errs []error
	if c.Logging != nil {
		errs = append(errs, c.Logging.check())
	}
	for _, m := range []*Metrics{c.HourMetrics, c.MinuteMetrics} {
		if m != nil {
			errs = append(errs, m.check())
		}
	}
	if c.CORS != nil {
		errs = append(errs, checkCORS(*c.CORS))
	}
	if c.Version != nil && *c.Version != "" {
		if _, err := time.Parse(time.DateOnly, *c.Version); err != nil {
			errs = append(errs, fault.New(fault.InvalidArgument, "The default version of a service is a date, as in 2021-12-02."))
		}
	}
	if c.DeleteRetention != nil {
		errs = append(errs, c.DeleteRetention.check())
	}
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		return errs[i]
	}
	switch {
	case c.DeleteRetention != nil && c.DeleteRetention.Enabled:
		return fault.New(fault.Conflict, "Soft delete is not offered: what is deleted is gone, and a policy that said otherwise would protect nothing.").
			WithMend("Leave the delete retention policy disabled, and back the installation up.")
	case c.StaticWebsite != nil && *c.StaticWebsite:
		return fault.New(fault.Conflict, "Static websites are not offered: nobody reads without being somebody.").
			WithMend("Leave the static website disabled.")
	}
	return nil
}

func (c BlobServiceChange) apply(s *BlobService) {
	if c.Logging != nil {
		s.Logging = *c.Logging
	}
	if c.HourMetrics != nil {
		s.HourMetrics = *c.HourMetrics
	}
	if c.MinuteMetrics != nil {
		s.MinuteMetrics = *c.MinuteMetrics
	}
	if c.CORS != nil {
		s.CORS = *c.CORS
	}
	if c.Version != nil {
		s.Version = *c.Version
	}
}

// named returns the account with the name, if the caller may do action to it. Whether
// an account exists that he may not see, nobody is told. Who signs with a key of the
// account may do all with its services, as in Azure.
func named(tx Tx, c identity.Caller, action rbac.Action, name string) (Row, error) {
	row, err := tx.AccountNamed(Name(name))
	if err == nil && row.Tenant != c.Tenant || fault.ReasonOf(err) == fault.ResourceNotFound {
		return Row{}, fault.New(fault.Denied, "The caller lacks the right "+string(action)+" at such a storage account.")
	}
	if err != nil {
		return Row{}, err
	}
	if scope := row.Path.Scope(); c.Account == "" || rbac.Scope(c.Account).Key() != scope.Key() {
		return row, permit(tx, c, action, scope)
	}
	return row, nil
}

// BlobService returns how an account's Blob service is set up.
func (a *Accounts) BlobService(ctx context.Context, c identity.Caller, name string) (s BlobService, err error) {
	e := c.Entry("GetBlobServiceProperties", "/subscriptions")
	err = a.store.View(ctx, func(tx Tx) error {
		row, err := named(tx, c, rbac.BlobServicesRead, name)
		if err == nil {
			e.Resource, s = string(row.Path.Scope()), row.BlobService
		}
		return err
	})
	return s, a.record(ctx, e, err)
}

// SetBlobService changes how an account's Blob service is set up. What a request does
// depends on it from the moment at which this returns.
func (a *Accounts) SetBlobService(ctx context.Context, c identity.Caller, name string, change BlobServiceChange) error {
	e := c.Entry("SetBlobServiceProperties", "/subscriptions")
	return a.write(ctx, &e, func(tx Tx) error {
		row, err := named(tx, c, rbac.BlobServicesWrite, name)
		if err != nil {
			return err
		}
		e.Resource = string(row.Path.Scope())
		if err := change.check(); err != nil {
			return err
		}
		change.apply(&row.BlobService)
		e.Detail = map[string]string{"corsRules": strconv.Itoa(len(row.BlobService.CORS))}
		return tx.PutAccount(row)
	})
}

// BlobServiceOf returns how an account's Blob service is set up, for the wire, which
// answers by it before it knows who asks: the zero value if there is no such account.
func (a *Accounts) BlobServiceOf(ctx context.Context, name string) (s BlobService, err error) {
	err = a.store.View(ctx, func(tx Tx) error {
		row, err := tx.AccountNamed(Name(name))
		s = row.BlobService
		return err
	})
	if fault.ReasonOf(err) == fault.ResourceNotFound {
		return BlobService{}, nil
	}
	return s, err
}
