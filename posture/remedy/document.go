package remedy

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
)

// A Document is one JSON document, and the values that a run sets in it. Taking them back
// sends, at the same places, what was there before: null where nothing was.
type Document struct {
	Side   string         `json:"side"`   // "data", "keys" or "vault": the manager that reads and writes it
	At     string         `json:"at"`     // its path, with the query
	Method string         `json:"method"` // of what writes: PATCH, or PUT where the document is sent whole
	Want   map[string]any `json:"want"`
	Empty  bool           `json:"empty,omitempty"` // texts that were not there are taken back as "", and not as null
}

// side returns a manager by its name.
func (x *executor) side(name string) (Manager, error) {
	m := map[string]Manager{"data": x.Data, "keys": x.Keys, "vault": x.Vault, "fabric": x.Fabric}[name]
	if m == nil {
		return nil, fault.New(fault.NotSupported, "This source has no way to "+name+".")
	}
	return m, nil
}

// holds reports whether a document has all that is wanted. Names and texts compare without
// regard to case, as services spell them.
func holds(have, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		h, _ := have.(map[string]any)
		for name, w := range want {
			if !holds(posture.Field(h, name), w) {
				return false
			}
		}
		return true
	case []any:
		h, ok := have.([]any)
		if !ok || len(h) != len(want) {
			return false
		}
		for _, w := range want {
			found := false
			for _, one := range h {
				found = found || holds(one, w)
			}
			if !found {
				return false
			}
		}
		return true
	}
	return strings.EqualFold(text(have), text(want))
}

// text is a value's; null, "" and {} are no value.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case map[string]any:
		if len(v) == 0 {
			return ""
		}
	}
	return fmt.Sprint(v)
}

// was returns what a document had at the places of what is wanted.
func was(have map[string]any, want map[string]any, empty bool) map[string]any {
	out := map[string]any{}
	for name, w := range want {
		v := posture.Field(have, name)
		wanted, isObject := w.(map[string]any)
		h, hadObject := v.(map[string]any)
		switch {
		case isObject && (hadObject || empty):
			out[name] = was(h, wanted, empty)
		case v == nil && empty:
			out[name] = ""
		default:
			out[name] = v
		}
	}
	return out
}

// alike reports whether two documents agree at the places of what is wanted.
func alike(a, b, want map[string]any) bool {
	for name, w := range want {
		x, y := posture.Field(a, name), posture.Field(b, name)
		if wanted, ok := w.(map[string]any); ok {
			xo, _ := x.(map[string]any)
			yo, _ := y.(map[string]any)
			if !alike(xo, yo, wanted) {
				return false
			}
			continue
		}
		if !holds(x, y) || !holds(y, x) {
			return false
		}
	}
	return true
}

// moving says whether a resource is still on its way, and fails if it got nowhere.
func moving(body map[string]any) (bool, error) {
	properties, _ := body["properties"].(map[string]any)
	switch state := strings.ToLower(text(posture.Field(properties, "provisioningState"))); state {
	case "", "succeeded", "active", "running":
		return false, nil
	case "failed", "canceled":
		return false, fault.New(fault.Unavailable, "The service says that its provisioning "+state+".")
	}
	return true, nil
}

// documentImage reads the run's document.
func (x *executor) documentImage(ctx context.Context) (raw json.RawMessage, err error) {
	m, err := x.side(x.run.Document.Side)
	if err == nil {
		err = m.Call(ctx, "GET", x.run.Document.At, nil, &raw)
	}
	return raw, err
}

func (x *executor) document(ctx context.Context) (body map[string]any, err error) {
	raw, err := x.documentImage(ctx)
	if err == nil && json.Unmarshal(raw, &body) != nil {
		err = fault.New(fault.Internal, "The answer is no object.").About(x.run.Document.At)
	}
	return body, err
}

func (x *executor) write(ctx context.Context, s *Step, body map[string]any) error {
	m, err := x.side(x.run.Document.Side)
	if err != nil {
		return err
	}
	s.Change = body
	return m.Call(ctx, x.run.Document.Method, x.run.Document.At, body, nil)
}

// documentStep sets the values of the run's document.
func documentStep(name, do string) stepKind {
	return stepKind{
		name: name, do: do,
		look: (*executor).lookDocument, act: (*executor).setDocument, lookBack: (*executor).lookDocumentBack, undo: (*executor).resetDocument,
	}
}

func (x *executor) lookDocument(ctx context.Context) (presence, string, error) {
	body, err := x.document(ctx)
	if err != nil || !holds(body, x.run.Document.Want) {
		return absent, "it is not set", err
	}
	return settled(body, "it is set")
}

func settled(body map[string]any, seen string) (presence, string, error) {
	on, err := moving(body)
	if on {
		return coming, "the service is at it", err
	}
	return present, seen, err
}

func (x *executor) setDocument(ctx context.Context, s *Step) error {
	return x.write(ctx, s, x.run.Document.Want)
}

func (x *executor) lookDocumentBack(ctx context.Context, _ *Step) (presence, string, error) {
	body, err := x.document(ctx)
	if err != nil || !alike(body, x.was.body, x.run.Document.Want) {
		return absent, "it is still set", err
	}
	return settled(body, "it is as it was")
}

func (x *executor) resetDocument(ctx context.Context, s *Step) error {
	return x.write(ctx, s, was(x.was.body, x.run.Document.Want, x.run.Document.Empty))
}

// documentUndisturbed looks whether the document is what the run made of it, or what it
// was before.
func (x *executor) documentUndisturbed(image json.RawMessage) error {
	var body map[string]any
	if err := json.Unmarshal(image, &body); err != nil {
		return fault.New(fault.Internal, "The answer is no object.").About(x.run.Resource)
	}
	if x.run.Document.Want == nil || holds(body, x.run.Document.Want) || alike(body, x.was.body, x.run.Document.Want) {
		return nil
	}
	return fault.New(fault.Conflict, "Somebody else has changed it since.").About(x.run.Resource).
		WithMend("Decide which of the two is right, and change it by hand.")
}

func (x *executor) documentRestored(image json.RawMessage) bool {
	s, err := x.parse(image)
	return err == nil && s.identityType() == x.was.identityType() && alike(s.body, x.was.body, x.run.Document.Want)
}
