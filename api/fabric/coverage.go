package fabric

import (
	"net/http"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/workspace"
)

type coverageAnswer struct {
	KeyIdentifier string         `json:"keyIdentifier,omitempty"`
	Workspace     []string       `json:"workspaceVisible"` // of the workspace itself, to whoever holds the database
	Shortcuts     string         `json:"shortcuts"`
	Items         []itemCoverage `json:"items"`
}

type itemCoverage struct {
	encryptedItem
	EncryptionStatus state    `json:"encryptionStatus"`
	ReSealOnly       bool     `json:"reSealOnly,omitempty"` // older data lies under keys that the platform alone held before
	Sealed           []string `json:"sealed"`
	Visible          []string `json:"visible"`
	Elsewhere        []string `json:"elsewhere,omitempty"`
}

// coverage answers item by item what the workspace's keys cover and what not.
func (c *call) coverage() error {
	ws, err := c.workspace()
	if err != nil {
		return err
	}
	s, err := c.enc.Status(c.r.Context(), c.caller, ws)
	if err != nil {
		return err
	}
	names, err := c.ws.ItemNames(c.r.Context(), c.caller, ws)
	if err != nil {
		return err
	}
	a := coverageAnswer{
		KeyIdentifier: s.KeyIdentifier, Items: []itemCoverage{},
		Workspace: []string{"display name", "capacity", "domain", "classification label", "role assignments", "key identifier and key version"},
		Shortcuts: "None: shortcuts are refused, so that nothing leads out of the workspace's key.",
	}
	for _, i := range s.Items {
		name, seen := names[i.ID]
		if names != nil && !seen {
			continue // deleted, and as covered as it was
		}
		of := workspace.CoverageOf(workspace.ItemType(i.Type))
		a.Items = append(a.Items, itemCoverage{
			encryptedItem:    encryptedItem{ID: string(i.ID), DisplayName: name, Type: i.Type, Reason: i.Reason, Detail: i.Detail},
			EncryptionStatus: itemState(s, i), ReSealOnly: s.ReSealOnly && s.Mode == encryption.CustomerManaged,
			Sealed: of.Sealed, Visible: of.Visible, Elsewhere: of.Elsewhere,
		})
	}
	return c.answer(http.StatusOK, a)
}

func (c *call) listShortcuts() error {
	if _, err := c.typed(""); err != nil {
		return err
	}
	return c.answer(http.StatusOK, page[struct{}]{Value: []struct{}{}})
}

// createShortcut refuses: what a shortcut shows lies under another key, or none.
func (c *call) createShortcut() error {
	if _, err := c.typed(""); err != nil {
		return err
	}
	return fault.New(fault.NotSupported, "Shortcuts are not supported: they would lead out of what the workspace's key covers.").
		WithMend("Copy the data into the workspace.")
}
