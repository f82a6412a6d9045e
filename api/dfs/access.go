package dfs

import (
	"net/http"
	"strings"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// setsAccess reports whether a request changes access control.
func setsAccess(c *call) bool {
	action := strings.ToLower(c.query["action"])
	return c.method == http.MethodPatch && (action == "setaccesscontrol" || action == "setaccesscontrolrecursive")
}

// setAccessControl answers Path - Update with action=setAccessControl.
func (s *server) setAccessControl(c *call) error {
	change, err := storagewire.ParseAccess(c.r.Header)
	if err != nil {
		return err
	}
	if change == nil {
		return storagewire.Coded(fault.InvalidArgument, "MissingRequiredHeader", "The request says neither owner, group, permissions nor access control list.")
	}
	conditions, err := storagewire.ParseConditions(c.r.Header, "")
	if err != nil {
		return err
	}
	p, err := s.lake.SetAccess(c.r.Context(), c.caller, c.path, *change, conditions)
	if err != nil {
		return err
	}
	storagewire.SetVersion(c.w.Header(), p)
	c.w.Header().Set("x-ms-namespace-enabled", "true")
	c.w.Header().Set("Content-Length", "0")
	c.w.WriteHeader(http.StatusOK)
	return nil
}

type recursiveBody struct {
	DirectoriesSuccessful int        `json:"directoriesSuccessful"`
	FilesSuccessful       int        `json:"filesSuccessful"`
	FailureCount          int        `json:"failureCount"`
	FailedEntries         []struct{} `json:"failedEntries"`
}

// setAccessControlRecursive answers action=setAccessControlRecursive.
func (s *server) setAccessControlRecursive(c *call) error {
	how := lake.AccessMode(strings.ToLower(c.query["mode"]))
	if how != lake.SetACL && how != lake.ModifyACL && how != lake.RemoveACL {
		return storagewire.Coded(fault.InvalidArgument, "InvalidQueryParameterValue", "mode is set, modify or remove.")
	}
	list, err := lake.ParseACL(c.r.Header.Get("x-ms-acl"), how == lake.RemoveACL)
	if err != nil {
		return err
	}
	most, err := c.query.Int("maxrecords", 1, 0)
	if err != nil {
		return err
	}
	done, err := s.lake.SetAccessBelow(c.r.Context(), c.caller, c.path, how, list, int(min(most, maxPage)), c.query["continuation"])
	if err != nil {
		return err
	}
	if done.Continuation != "" {
		c.w.Header().Set("x-ms-continuation", done.Continuation)
	}
	c.w.Header().Set("x-ms-namespace-enabled", "true")
	api.WriteJSON(c.w, http.StatusOK, recursiveBody{
		DirectoriesSuccessful: done.Folders, FilesSuccessful: done.Files, FailedEntries: []struct{}{},
	})
	return nil
}

// setAccess says who may what: in a storage account what is kept of it; in a workspace
// what OneLake says of everybody's files, whose access control list shows the caller's
// own rights, which the workspace's roles give.
func (s *server) setAccess(c *call, p lake.Properties) error {
	h := c.w.Header()
	s.config.SetAccess(h, p.Access)
	if s.config.Storage() != "" {
		return nil
	}
	r, err := s.lake.Rights(c.r.Context(), c.caller, c.path)
	if err != nil {
		return err
	}
	may := []byte("---")
	if r.Read {
		may[0], may[2] = 'r', 'x'
	}
	if r.Write {
		may[1] = 'w'
	}
	h.Set("x-ms-acl", "user::"+string(may)+",group::---,other::---")
	return nil
}
