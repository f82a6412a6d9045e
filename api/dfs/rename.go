package dfs

import (
	"net/http"
	"strings"

	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// rename answers Path - Create with x-ms-rename-source. It is done in one step, so
// there is never a continuation.
func (s *server) rename(c *call) error {
	if err := emptyBody(c.r); err != nil {
		return err
	}
	from, err := parseSource(c.r.Header.Get("x-ms-rename-source"), s.config.Account, c.path)
	from.Account = s.config.Storage()
	if err != nil {
		return err
	}
	var o lake.RenameOptions
	if o.Conditions, err = storagewire.ParseConditions(c.r.Header, ""); err != nil {
		return err
	}
	if o.SourceConditions, err = storagewire.ParseConditions(c.r.Header, "x-ms-source-"); err != nil {
		return err
	}
	p, err := s.lake.Rename(c.r.Context(), c.caller, from, c.path, o)
	if err != nil {
		return existing(o.Conditions, err)
	}
	written(c.w, http.StatusCreated, p)
	return nil
}

// parseSource reads a rename's source: an escaped "/filesystem/path", which clients
// on path-style addresses begin with the account. A filesystem that is called like
// the account is told by the destination, since a rename stays in its filesystem.
func parseSource(header, account string, to lake.Path) (lake.Path, error) {
	escaped, _, _ := strings.Cut(header, "?") // a shared access signature may follow
	from, err := parseSourcePath(escaped)
	if err != nil || account == "" || !strings.EqualFold(from.Container, account) {
		return from, err
	}
	_, rest, _ := strings.Cut(strings.TrimPrefix(escaped, "/"), "/")
	inner, err := parseSourcePath(rest)
	switch {
	case err == nil && strings.EqualFold(inner.Container, to.Container):
		return inner, nil
	case err != nil || strings.EqualFold(from.Container, to.Container):
		return from, nil
	}
	return inner, nil
}

func parseSourcePath(escaped string) (lake.Path, error) {
	p, err := lake.ParsePath("/" + strings.TrimPrefix(escaped, "/"))
	if err == nil && len(p.Segments) == 0 {
		err = fault.New(fault.InvalidPath, "The source of a rename is a path in a filesystem.")
	}
	if err != nil {
		e := storagewire.Coded(fault.InvalidArgument, "InvalidSourceUri", "The source URI is invalid.")
		e.Err.Err = err
		return lake.Path{}, e
	}
	return p, nil
}
