package remedy

import (
	"context"

	"github.com/kluis-io/kluis/posture"
)

// settings are what a vault is to say of itself, by the guardrail's control.
var settings = map[string]map[string]any{
	"G1": {"enableSoftDelete": true},
	"G2": {"enablePurgeProtection": true},
	"G4": {"networkAcls": map[string]any{"defaultAction": "Deny", "bypass": "AzureServices"}},
}

// setting sets what a guardrail wants of a vault. Soft delete and purge protection cannot
// be taken back (https://learn.microsoft.com/azure/key-vault/general/soft-delete-overview).
var setting = kind{
	check: func(x *executor, ctx context.Context) error { _, err := x.document(ctx); return err },
	image: (*executor).documentImage, undisturbed: (*executor).documentUndisturbed, restored: (*executor).documentRestored,
	plan:  planSetting,
	steps: []stepKind{documentStep("vault", "Set what the guardrail wants of the vault.")},
}

func planSetting(r *Run, f posture.Finding, _ Target) error {
	r.Final = f.Control == "G1" || f.Control == "G2"
	r.Document = &Document{
		Side: "keys", At: f.Resource + "?api-version=" + vaultVersion, Method: "PATCH",
		Want: map[string]any{"properties": settings[f.Control]},
	}
	return nil
}
