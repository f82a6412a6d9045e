package fabric

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// Accounts finds storage accounts by their names. An account.Accounts is one.
type Accounts interface {
	Find(ctx context.Context, name account.Name) (account.Found, error)
}

// Containers tells the names of an account's containers. A lake.Lake is one.
type Containers interface {
	ContainerNames(ctx context.Context, caller identity.Caller, account string) (map[encryption.ItemID]string, error)
}

// scope returns the scope that the path names: a workspace by its id, or a storage account
// of the caller's tenant by its name. What he may do with it, package encryption says.
func (c *call) scope() (encryption.ScopeID, error) {
	name := c.r.PathValue("a")
	if name == "" {
		return c.workspace()
	}
	f, err := c.config.Accounts.Find(c.r.Context(), account.Name(strings.ToLower(name)))
	if err == nil && f.Tenant != c.caller.Tenant || fault.ReasonOf(err) == fault.ResourceNotFound {
		return "", fault.New(fault.NotFound, "There is no such storage account.")
	}
	return f.ID, err
}

// names returns the names of a scope's items, or of those that are named; nil if they
// cannot be told.
func (c *call) names(id encryption.ScopeID, only ...encryption.ItemID) (map[encryption.ItemID]string, error) {
	name := c.r.PathValue("a")
	switch {
	case name == "":
		return c.ws.ItemNames(c.r.Context(), c.caller, id, only...)
	case len(only) == 1 && only[0] == encryption.ScopeItem(id) || c.config.Containers == nil:
		return nil, nil
	}
	return c.config.Containers.ContainerNames(c.r.Context(), c.caller, strings.ToLower(name))
}

// counts are the items by status.
func counts(s encryption.Status) map[state]int {
	n, on, done := s.Totals, enableInProgress, active
	if s.State == encryption.Disabling {
		on = disableInProgress
	}
	if s.Mode == encryption.PlatformManaged {
		done = disabled
	}
	out := map[state]int{done: n.Items - n.Behind, on: n.Behind - n.Failed, failed: n.Failed}
	for st, count := range out {
		if count == 0 {
			delete(out, st)
		}
	}
	return out
}

// itemStatuses are what items can be asked for by.
var itemStatuses = map[state]encryption.ItemEncryption{
	"": "", active: encryption.ItemActive, disabled: encryption.ItemActive, failed: encryption.ItemFailed,
	enableInProgress: encryption.ItemInProgress, disableInProgress: encryption.ItemInProgress,
}

// listEncrypted lists how each of a scope's items is encrypted: those of a status, and
// those whose name, type or id has a text in it.
func (c *call) listEncrypted() error {
	id, err := c.scope()
	if err != nil {
		return err
	}
	v := c.r.URL.Query()
	status, known := itemStatuses[state(v.Get("status"))]
	if !known {
		return fault.New(fault.InvalidArgument, "The status is Active, EnableInProgress, DisableInProgress, Failed or Disabled.")
	}
	q := encryption.ItemQuery{Status: status, Limit: c.config.PageSize}
	if text := v.Get("top"); text != "" {
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 || q.Limit > c.config.PageSize {
			return fault.New(fault.InvalidArgument, "The top is between 1 and "+strconv.Itoa(c.config.PageSize)+".")
		}
	}
	after, err := c.after("encrypted items")
	if err != nil {
		return err
	}
	q.After = encryption.ItemID(after)
	s, err := c.enc.Summary(c.r.Context(), c.caller, id)
	if err != nil {
		return err
	}
	var names map[encryption.ItemID]string
	if text := strings.ToLower(strings.TrimSpace(v.Get("search"))); text != "" {
		if names, err = c.names(id); err != nil {
			return err
		}
		q.Among = func(i encryption.ItemStatus) bool {
			return strings.Contains(strings.ToLower(names[i.ID]+"\x00"+i.Type+"\x00"+string(i.ID)), text)
		}
	}
	items, more, err := c.enc.Items(c.r.Context(), c.caller, id, q)
	if err != nil {
		return err
	}
	if names == nil && len(items) > 0 {
		var shown []encryption.ItemID
		for _, i := range items {
			shown = append(shown, i.ID)
		}
		if names, err = c.names(id, shown...); err != nil {
			return err
		}
	}
	p := page[encryptedItem]{Value: []encryptedItem{}}
	for _, i := range items {
		name, seen := names[i.ID]
		e := encryptedItem{
			ID: string(i.ID), DisplayName: name, Type: i.Type, Reason: i.Reason, Detail: i.Detail, Status: itemState(s, i),
			Deleted: names != nil && !seen,
		}
		if i.Status != encryption.ItemActive {
			e.Progress = toProgress(i.Progress)
		}
		p.Value = append(p.Value, e)
	}
	if more {
		p.paging = c.next("encrypted items", string(items[len(items)-1].ID))
	}
	return c.answer(http.StatusOK, p)
}

// rotateAccountKey begins a deep rotation of a storage account. That it is done, its
// encryption tells.
func (c *call) rotateAccountKey() error {
	id, err := c.scope()
	if err != nil {
		return err
	}
	_, err = c.enc.Rotate(c.r.Context(), c.caller, id)
	return c.done(err)
}

// retryAccount has a storage account's failed items tried again, as assigning a
// workspace's key anew does.
func (c *call) retryAccount() error {
	id, err := c.scope()
	if err != nil {
		return err
	}
	s, err := c.enc.Summary(c.r.Context(), c.caller, id)
	if err != nil {
		return err
	}
	return c.done(c.enc.Assign(c.r.Context(), c.caller, id, s.KeyIdentifier))
}
