package remedy

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
)

const cmkPrefix = "CMK/"

// A kind is how findings of one sort are mended.
type kind struct {
	steps []stepKind
	keyed bool // it puts something under a key, which the run is told
	// plan adds to a new run what the steps need; nil if they need no more.
	plan func(*Run, posture.Finding, Target) error
	// check looks whether what the run takes for granted holds.
	check func(*executor, context.Context) error
	// image reads what the steps change.
	image func(*executor, context.Context) (json.RawMessage, error)
	// undisturbed fails with [fault.Conflict] if somebody else has changed since what the
	// run would take back.
	undisturbed func(*executor, json.RawMessage) error
	// restored reports whether an image agrees with the one before.
	restored func(*executor, json.RawMessage) bool
}

// kinds are all there are, by the names that runs have of them.
var kinds map[string]kind

func init() { // the steps lead back to the table
	kinds = map[string]kind{
		"storage":   storage,
		"service":   service,
		"workspace": workspaceKind,
		"setting":   setting,
		"unpin":     unpin,
		"identity":  identityKind,
		"rotation":  rotation,
		"least":     least,
	}
}

// Types that have a kind of their own.
const (
	storageType = "Microsoft.Storage/storageAccounts"
	fabricType  = "Microsoft.Fabric/workspaces"
)

// Puts reports whether resources of a type can be put under a key here.
func Puts(rule *posture.Rule) bool { return rule.Part == "" && putter(rule) != "" }

// putter returns the kind that puts resources of a type under a key, "" if none does.
func putter(rule *posture.Rule) string {
	switch {
	case rule.Type == storageType:
		return "storage"
	case rule.Type == fabricType:
		return "workspace"
	case rule.Apply != "":
		return "service"
	}
	return ""
}

// kindFor returns how a finding is mended.
func kindFor(f posture.Finding) (string, error) {
	rule := posture.RuleFor(f.Type)
	if typ, ok := strings.CutPrefix(f.Control, cmkPrefix); ok {
		if rule = posture.RuleFor(typ); rule != nil && Puts(rule) {
			return putter(rule), nil
		}
		return "", unmended(f)
	}
	patched := rule != nil && (rule.Apply != "" || rule.Type == storageType)
	switch {
	case settings[f.Control] != nil && strings.EqualFold(f.Type, "Microsoft.KeyVault/vaults"):
		return "setting", nil
	case f.Control == "G10" && patched:
		return "unpin", nil
	case f.Control == "G13" && patched && rule.Apply != "user":
		return "identity", nil
	case f.Control == "G14" && patched:
		return "least", nil
	case f.Control == "G5" || f.Control == "G6" || f.Control == "G7" || f.Control == "G8" || f.Control == "EXPIRED":
		return "rotation", nil
	}
	return "", unmended(f)
}

func unmended(f posture.Finding) error {
	return fault.New(fault.NotSupported, "Findings of "+f.Control+" are not mended by kluis itself here: it could not verify it, or not undo it.").
		About(f.Resource).WithMend("'kluis posture plan' has the commands.")
}
