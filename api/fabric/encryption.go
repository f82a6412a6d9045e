package fabric

import (
	"net/http"
	"strings"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
)

// A state is an encryption status on Fabric's wire.
type state string

const (
	disabled          state = "Disabled"
	active            state = "Active"
	enableInProgress  state = "EnableInProgress"
	disableInProgress state = "DisableInProgress"
	failed            state = "Failed"
)

type encryptionDetail struct {
	KeyIdentifier    string `json:"keyIdentifier,omitempty"`
	EncryptionStatus state  `json:"encryptionStatus"`
}

type encryptionAnswer struct {
	Detail   encryptionDetail  `json:"encryptionDetail"`
	Previous *encryptionDetail `json:"previousEncryptionDetail,omitempty"`
	Items    []itemGroup       `json:"workspaceEncryptionItemsDetails,omitempty"`

	// Ours, from here on.
	Serving         serving   `json:"serving"`
	KeyVersion      string    `json:"keyVersion,omitempty"`
	Versions        []version `json:"keyVersions,omitempty"`
	Progress        *progress `json:"progress,omitempty"`
	ReSealOnly      bool      `json:"reSealOnly,omitempty"`
	KillSwitchBound int64     `json:"killSwitchBoundSeconds"`
	OwnBound        int64     `json:"ownKillSwitchBoundSeconds,omitempty"` // the workspace's admin's
	KeyBound        int64     `json:"keyKillSwitchBoundSeconds,omitempty"` // the key's owner's
	TenantBound     int64     `json:"tenantKillSwitchBoundSeconds,omitempty"`
	Stretched       int64     `json:"stretchedLeaseSeconds,omitempty"` // a lease's length, where the vault's budget makes it longer than it aims to be

	KeyLost  *time.Time           `json:"keyLostSince,omitempty"`
	Findings []encryption.Finding `json:"findings,omitempty"`
	Verified *time.Time           `json:"keyVerified,omitempty"` // when the findings were last looked for
	Percent  *int                 `json:"percentComplete,omitempty"`
	Left     int64                `json:"estimatedSecondsLeft,omitempty"`

	Counts map[state]int `json:"itemCounts,omitempty"` // of all items, recoverable ones too, in place of them

	MayChange bool `json:"mayChange,omitempty"` // the caller: for programs that show people what they can do
}

type itemGroup struct {
	EncryptionStatus state           `json:"encryptionStatus"`
	Items            []encryptedItem `json:"items"`
}

type encryptedItem struct {
	ID          string `json:"id"`
	DisplayName string `json:"displayName,omitempty"` // absent while it cannot be opened
	Type        string `json:"type"`

	// Ours, from here on.
	Status   state        `json:"encryptionStatus,omitempty"` // where items do not stand in groups
	Deleted  bool         `json:"deleted,omitempty"`          // not seen any more, and recoverable
	Progress *progress    `json:"progress,omitempty"`
	Reason   fault.Reason `json:"reason,omitempty"`
	Detail   string       `json:"detail,omitempty"`
}

type progress struct {
	Files      int64 `json:"files"`
	TotalFiles int64 `json:"totalFiles"`
	Bytes      int64 `json:"bytes"`
	TotalBytes int64 `json:"totalBytes"`
}

// serving says whether the workspace's data can be used now.
type serving struct {
	State  string       `json:"state"` // Serving, Revoked, Unreachable or KeyLost
	Reason fault.Reason `json:"reason,omitempty"`
	Detail string       `json:"detail,omitempty"`
	Since  *time.Time   `json:"since,omitempty"`
}

type version struct {
	KID           string     `json:"kid"`
	LiveWraps     int        `json:"liveWraps"`
	Backups       int        `json:"backups,omitempty"` // that take it to be restored
	NewestBackup  *time.Time `json:"newestBackup,omitempty"`
	SafeToDisable bool       `json:"safeToDisable"`
	First         time.Time  `json:"firstUsed"`
	Last          *time.Time `json:"lastUsed,omitempty"` // absent while it is in use
}

func toProgress(p encryption.Progress) *progress {
	if p == (encryption.Progress{}) {
		return nil
	}
	return &progress{p.Files, p.TotalFiles, p.Bytes, p.TotalBytes}
}

// overall maps the scope's state to Fabric's. It has failed once only failed items
// are left to do.
func overall(s encryption.Status) state {
	switch {
	case s.State == encryption.Active:
		return active
	case s.State == encryption.Disabled:
		return disabled
	case s.Failed > 0 && !s.InProgress():
		return failed
	case s.State == encryption.Disabling:
		return disableInProgress
	}
	return enableInProgress
}

func itemState(s encryption.Status, i encryption.ItemStatus) state {
	switch i.Status {
	case encryption.ItemActive:
		if s.Mode == encryption.PlatformManaged {
			return disabled
		}
		return active
	case encryption.ItemFailed:
		return failed
	}
	if s.State == encryption.Disabling {
		return disableInProgress
	}
	return enableInProgress
}

// changing reports whether items are still on their way.
func changing(s encryption.Status) bool {
	o := overall(s)
	return o == enableInProgress || o == disableInProgress
}

// getEncryption answers how a scope is encrypted: of many items a client that only looks
// how far they are asks for items=none.
func (c *call) getEncryption() error {
	id, err := c.scope()
	if err != nil {
		return err
	}
	var s encryption.Status
	var names map[encryption.ItemID]string
	var missing error
	summary := strings.EqualFold(c.r.URL.Query().Get("items"), "none")
	if summary {
		s, err = c.enc.Summary(c.r.Context(), c.caller, id)
		_, missing = c.names(id, encryption.ScopeItem(id)) // of no item at all
	} else {
		s, err = c.enc.Status(c.r.Context(), c.caller, id)
		names, missing = c.names(id)
	}
	if missing != nil { // a workspace that was deleted is not there, even if its keys' rows still are
		return missing
	}
	if err != nil {
		return err
	}
	if changing(s) {
		c.w.Header().Set("Retry-After", retryAfter)
	}
	a := toEncryption(s, names)
	if summary {
		a.Counts = counts(s)
	}
	return c.answer(http.StatusOK, a)
}

func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// given returns nil for the zero time.
func given(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// toEncryption returns a status on the wire; names is nil if they cannot be opened.
func toEncryption(s encryption.Status, names map[encryption.ItemID]string) encryptionAnswer {
	a := encryptionAnswer{
		Detail:     encryptionDetail{s.KeyIdentifier, overall(s)},
		Serving:    toServing(s.Scope),
		KeyVersion: string(s.KID), ReSealOnly: s.ReSealOnly, KillSwitchBound: seconds(s.Bound),
		OwnBound: seconds(s.Scope.Bound), KeyBound: seconds(s.Scope.KeyBound), TenantBound: seconds(s.Scope.TenantBound),
		KeyLost: given(s.Scope.KeyLost), Findings: s.Scope.Findings.List(), Verified: given(s.Scope.Verified),
		MayChange: s.MayChange,
	}
	if s.Stretched {
		a.Stretched = seconds(s.Lease)
	}
	if s.PreviousKeyIdentifier != "" && s.PreviousKeyIdentifier != s.KeyIdentifier {
		a.Previous = &encryptionDetail{s.PreviousKeyIdentifier, active}
		if s.Mode == encryption.PlatformManaged {
			a.Detail.KeyIdentifier = s.PreviousKeyIdentifier // the key that is being left
		}
	}
	if changing(s) || a.Detail.EncryptionStatus == failed {
		a.Progress, a.Percent, a.Left = toProgress(s.Totals.Progress), &s.Percent, seconds(s.Left)
	}
	for _, v := range s.Versions {
		w := version{KID: string(v.KID), LiveWraps: v.LiveWraps, Backups: v.Backups, SafeToDisable: v.SafeToDisable, First: v.First}
		if v.Backups > 0 {
			w.NewestBackup = new(v.NewestBackup)
		}
		if !v.Last.IsZero() {
			w.Last = new(v.Last)
		}
		a.Versions = append(a.Versions, w)
	}
	if a.Detail.EncryptionStatus != disabled {
		a.Items = groups(s, names)
	}
	return a
}

func toServing(s encryption.Scope) serving {
	if s.Serving == encryption.Serves {
		return serving{State: "Serving"}
	}
	v := serving{State: string(s.Serving), Since: given(s.ServingSince), Reason: s.Reason, Detail: s.Detail}
	if !s.KeyLost.IsZero() {
		v.State = "KeyLost"
	}
	return v
}

// groups gathers the items by status, as Fabric tells them. An item that is done
// and not seen any more is left out.
func groups(s encryption.Status, names map[encryption.ItemID]string) []itemGroup {
	byState := map[state][]encryptedItem{}
	for _, i := range s.Items {
		name, seen := names[i.ID]
		st := itemState(s, i)
		if names != nil && !seen && i.Status == encryption.ItemActive {
			continue
		}
		e := encryptedItem{ID: string(i.ID), DisplayName: name, Type: i.Type, Reason: i.Reason, Detail: i.Detail}
		if i.Status != encryption.ItemActive {
			e.Progress = toProgress(i.Progress)
		}
		byState[st] = append(byState[st], e)
	}
	var all []itemGroup
	for _, st := range []state{failed, enableInProgress, disableInProgress, active, disabled} {
		if items := byState[st]; len(items) > 0 {
			all = append(all, itemGroup{st, items})
		}
	}
	return all
}

type assignment struct {
	KeyIdentifier string `json:"keyIdentifier"`
	ReSealOnly    bool   `json:"reSealOnly"` // ours
}

func (c *call) assignment() (a assignment, err error) {
	err = c.read(bodyLimit, &a)
	if err == nil && a.KeyIdentifier == "" {
		err = fault.New(fault.InvalidArgument, "The body has no keyIdentifier.")
	}
	return a, err
}

func (c *call) assignKey() error {
	ws, err := c.workspace()
	if err != nil {
		return err
	}
	body, err := c.assignment()
	if err != nil {
		return err
	}
	if dry, err := c.flag("dryRun"); err != nil {
		return err
	} else if dry {
		return c.preview(ws, body.KeyIdentifier)
	}
	assign := c.enc.Assign
	if body.ReSealOnly {
		assign = c.enc.Reseal
	}
	if err := assign(c.r.Context(), c.caller, ws, body.KeyIdentifier); err != nil {
		return err
	}
	c.w.Header().Set("Retry-After", retryAfter)
	return c.done(nil)
}

func (c *call) resetKey() error {
	ws, err := c.workspace()
	if err != nil {
		return err
	}
	if err := c.enc.Reset(c.r.Context(), c.caller, ws); err != nil {
		return err
	}
	c.w.Header().Set("Retry-After", retryAfter)
	return c.done(nil)
}
