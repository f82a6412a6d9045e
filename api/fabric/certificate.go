package fabric

import (
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/workspace"
)

const shreddings = "/v1/admin/encryption/shreddings/"

// shredded answers a deletion that nothing can undo: it says where the certificate
// of it is.
func (c *call) shredded(id string, err error) error {
	if err == nil {
		c.w.Header().Set("Location", c.url(shreddings+id))
	}
	return c.done(err)
}

// getShredding answers the certificate that an item or a workspace was shredded.
func (c *call) getShredding() error {
	id, err := c.id("id", fault.NotFound)
	if err != nil {
		return err
	}
	cert, err := c.ws.Shredding(c.r.Context(), c.caller, id)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, cert)
}

// recordDrill takes what a revocation drill has found, and answers the proof that
// the platform's audit log holds it.
func (c *call) recordDrill() error {
	var body struct {
		Workspace string `json:"workspaceId"`
		Report    string `json:"reportSha256"` // in hexadecimal digits
		Trials    int    `json:"trials"`
		Dark      int64  `json:"darkMilliseconds"`
		Back      int64  `json:"backMilliseconds"`
	}
	if err := c.read(bodyLimit, &body); err != nil {
		return err
	}
	if !workspace.IsID(body.Workspace) {
		return fault.New(fault.InvalidArgument, "The body needs workspaceId, the id of the workspace of the drill.")
	}
	sum, err := hex.DecodeString(body.Report)
	if err != nil {
		return fault.New(fault.InvalidArgument, "reportSha256 is not in hexadecimal digits.")
	}
	cert, err := c.ws.RecordDrill(c.r.Context(), c.caller, workspace.Drill{
		Workspace: encryption.ScopeID(strings.ToLower(body.Workspace)), Report: sum, Trials: body.Trials, Dark: body.Dark, Back: body.Back,
	})
	if err != nil {
		return err
	}
	return c.answer(http.StatusCreated, cert)
}
