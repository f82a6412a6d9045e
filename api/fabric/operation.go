package fabric

import (
	"net/http"
	"strings"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/workspace"
)

// perform acts and answers. A client that prefers not to wait (RFC 7240) is answered
// 202, and finds what came of it under the operation: Fabric decides by itself when
// it answers so, and its clients take both.
func (c *call) perform(kind workspace.OperationKind, ws encryption.ScopeID, act func(*workspace.Operation) error, answer func() error) error {
	if !c.prefersAsync() {
		if err := act(new(workspace.Operation)); err != nil {
			return err
		}
		return answer()
	}
	o, err := c.ws.Operate(c.r.Context(), c.caller, kind, ws, act)
	if err != nil {
		return err
	}
	c.w.Header().Set("Preference-Applied", "respond-async")
	return c.accepted(o)
}

func (c *call) prefersAsync() bool {
	for _, h := range c.r.Header.Values("Prefer") {
		for p := range strings.SplitSeq(h, ",") {
			if strings.EqualFold(strings.TrimSpace(p), "respond-async") {
				return true
			}
		}
	}
	return false
}

// accepted answers 202 with where the operation is
// (learn.microsoft.com/rest/api/fabric/articles/long-running-operation).
func (c *call) accepted(o workspace.Operation) error {
	h := c.w.Header()
	h.Set("x-ms-operation-id", string(o.ID))
	h.Set("Location", c.url("/v1/operations/"+string(o.ID)))
	h.Set("Retry-After", retryAfter)
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

type operationState struct {
	Status  string    `json:"status"`
	Created time.Time `json:"createdTimeUtc"`
	Updated time.Time `json:"lastUpdatedTimeUtc"`
	Percent int       `json:"percentComplete"`
	Error   *lroError `json:"error,omitempty"`
}

type lroError struct {
	ErrorCode string `json:"errorCode"`
	Message   string `json:"message"`
}

// operation returns the operation of the path, and how far it is.
func (c *call) operation() (workspace.Operation, operationState, error) {
	id, err := c.id("id", fault.OperationNotFound)
	if err != nil {
		return workspace.Operation{}, operationState{}, err
	}
	o, err := c.ws.Operation(c.r.Context(), c.caller, workspace.OperationID(id))
	if err != nil {
		return o, operationState{}, err
	}
	s := operationState{Status: "Succeeded", Created: o.Created, Updated: o.Ended, Percent: 100}
	if o.Generation == 0 {
		return o, s, nil
	}
	e, err := c.enc.Status(c.r.Context(), c.caller, o.Workspace)
	if err != nil {
		return o, s, err
	}
	s.Updated = time.Now().UTC()
	switch {
	case e.Generation > o.Generation || overall(e) == active:
	case overall(e) == failed:
		s.Status, s.Percent = "Failed", e.Percent
		s.Error = &lroError{"EncryptionFailed", "Some items could not be brought under the new key. The workspace's encryption status says which, and why."}
	default:
		s.Status, s.Percent = "Running", e.Percent
	}
	return o, s, nil
}

func (c *call) getOperation() error {
	o, s, err := c.operation()
	if err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("x-ms-operation-id", string(o.ID))
	at := c.url("/v1/operations/" + string(o.ID))
	switch {
	case s.Status == "Running":
		h.Set("Retry-After", retryAfter)
	case s.Status == "Succeeded" && hasResult(o):
		at += "/result"
	}
	h.Set("Location", at)
	return c.answer(http.StatusOK, s)
}

func hasResult(o workspace.Operation) bool {
	return o.Kind == workspace.CreatingItem || o.Kind == workspace.GettingDefinition
}

// getOperationResult reads what the operation made where it lies.
func (c *call) getOperationResult() error {
	o, s, err := c.operation()
	if err != nil {
		return err
	}
	if s.Status != "Succeeded" {
		return wire{fault.New(fault.Conflict, "The operation is "+s.Status+"."), "OperationNotSucceeded"}
	}
	switch o.Kind {
	case workspace.CreatingItem:
		i, err := c.ws.Item(c.r.Context(), c.caller, o.Workspace, o.Item)
		if err != nil {
			return err
		}
		return c.answer(http.StatusOK, c.toItem(i, i.Type))
	case workspace.GettingDefinition:
		d, err := c.definitionOf(o.Workspace, o.Item)
		if err != nil {
			return err
		}
		return c.answer(http.StatusOK, d)
	}
	return wire{fault.New(fault.NotFound, "The operation has no result."), "OperationHasNoResult"}
}

// sqlDatabase is the type whose items Fabric can be asked to revalidate.
const sqlDatabase workspace.ItemType = "SQLDatabase"

// revalidate asks the customer's vault again at once, for the whole workspace.
func (c *call) revalidate(t workspace.ItemType) error {
	ws, id, err := c.item()
	if err != nil {
		return err
	}
	if err := c.ws.HasItem(c.r.Context(), c.caller, ws, id, t); err != nil {
		return err
	}
	return c.done(c.enc.Revalidate(c.r.Context(), c.caller, ws))
}
