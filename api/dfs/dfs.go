// Package dfs speaks the REST API of Azure Data Lake Storage Gen2 (DFS) over
// package lake, with OneLake's rules: a filesystem is a workspace, access follows
// from the workspace's roles, and headers that would set owners, permissions, tiers
// or keys are ignored and named in x-ms-rejected-headers.
//
// It answers what it leaves out (filesystems' life, access control lists, expiry,
// undelete, queries) with the protocol's errors, and holds no rule of its
// own. See https://learn.microsoft.com/rest/api/storageservices/data-lake-storage-gen2
// and https://learn.microsoft.com/fabric/onelake/onelake-api-parity.
package dfs

import (
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/lake"
)

// A Lake is what the protocol needs of [lake.Lake].
type Lake interface {
	ListContainers(ctx context.Context, caller identity.Caller, account, prefix string) ([]lake.ContainerProperties, error)
	Container(ctx context.Context, caller identity.Caller, p lake.Path, c lake.Conditions) (lake.ContainerProperties, error)
	CreateContainer(ctx context.Context, caller identity.Caller, p lake.Path, metadata map[string]string) (lake.ContainerProperties, error)
	SetContainerMetadata(ctx context.Context, caller identity.Caller, p lake.Path, metadata map[string]string, c lake.Conditions) (lake.ContainerProperties, error)
	DeleteContainer(ctx context.Context, caller identity.Caller, p lake.Path, c lake.Conditions) error
	Rights(ctx context.Context, caller identity.Caller, p lake.Path) (lake.Rights, error)
	Stat(ctx context.Context, caller identity.Caller, p lake.Path, c lake.Conditions) (lake.Properties, error)
	Open(ctx context.Context, caller identity.Caller, p lake.Path, c lake.Conditions, r lake.Range) (*lake.Content, error)
	Create(ctx context.Context, caller identity.Caller, p lake.Path, k lake.Kind, o lake.PutOptions) (lake.Properties, error)
	Append(ctx context.Context, caller identity.Caller, p lake.Path, position int64, body io.Reader, size int64, o lake.StageOptions) (crc64 uint64, err error)
	Flush(ctx context.Context, caller identity.Caller, p lake.Path, position int64, o lake.FlushOptions) (lake.Properties, error)
	List(ctx context.Context, caller identity.Caller, p lake.Path, o lake.ListOptions) (lake.Listing, error)
	Delete(ctx context.Context, caller identity.Caller, p lake.Path, recursive bool, c lake.Conditions) error
	Rename(ctx context.Context, caller identity.Caller, from, to lake.Path, o lake.RenameOptions) (lake.Properties, error)
	SetAccess(ctx context.Context, caller identity.Caller, p lake.Path, a lake.AccessChange, c lake.Conditions) (lake.Properties, error)
	SetAccessBelow(ctx context.Context, caller identity.Caller, p lake.Path, how lake.AccessMode, list lake.ACL, limit int, continuation string) (lake.AccessProgress, error)
	SetMetadata(ctx context.Context, caller identity.Caller, p lake.Path, metadata map[string]string, c lake.Conditions) (lake.Properties, error)
	Lease(ctx context.Context, caller identity.Caller, p lake.Path, r lake.LeaseRequest) (lake.Properties, error)
	SetHeaders(ctx context.Context, caller identity.Caller, p lake.Path, h lake.ContentHeaders, c lake.Conditions) (lake.Properties, error)
}

// New returns the handler of a DFS endpoint. The paths that it gets begin with the
// filesystem; an account's name before it is taken off by the caller.
func New(l Lake, tokens api.Tokens, c storagewire.Config) http.Handler {
	c.DFS = true
	return &server{lake: l, tokens: tokens, config: c}
}

type server struct {
	lake   Lake
	tokens api.Tokens
	config storagewire.Config
}

// A call is one authenticated request on its way to the lake.
type call struct {
	w      http.ResponseWriter
	r      *http.Request
	method string // after X-HTTP-Method-Override
	query  storagewire.Query
	caller identity.Caller
	path   lake.Path // zero for the account itself
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.config.Serve(w, r, s.serve, s.fail)
}

// ignored are the headers that OneLake ignores and names in its answer.
var ignored = append([]string{
	"x-ms-owner", "x-ms-group", "x-ms-permissions", "x-ms-umask", "x-ms-acl", "x-ms-acls", "x-ms-access-tier", "x-ms-encryption-context",
}, storagewire.KeyHeaders...)

func (s *server) serve(w http.ResponseWriter, r *http.Request, setup account.BlobService) error {
	q, err := storagewire.ParseQuery(r)
	if err != nil {
		return err
	}
	caller, err := s.config.Caller(r, q, s.tokens)
	if err != nil {
		return err
	}
	storagewire.DefaultVersion(w, r, q, setup)
	if err := storagewire.Refuse(r.Header); err != nil {
		return err
	}
	if s.config.Storage() == "" {
		storagewire.SetRejected(w, r, ignored...)
	} else if err := storagewire.RefuseKeys(r.Header); err != nil {
		return err
	}
	c := &call{w: storagewire.Override(w, r, q), r: r, method: r.Method, query: q, caller: caller}
	if c.method == http.MethodPut || c.method == http.MethodPost { // for clients that cannot send PATCH
		if strings.EqualFold(r.Header.Get("X-HTTP-Method-Override"), http.MethodPatch) {
			c.method = http.MethodPatch
		}
	}
	escaped := r.URL.EscapedPath()
	if escaped == "" || escaped == "/" {
		return s.account(c)
	}
	if c.path, err = s.config.ParsePath(escaped); err != nil {
		return err
	}
	if q["resource"] == "filesystem" {
		return s.filesystem(c)
	}
	if len(c.path.Segments) == 0 && c.method != http.MethodHead && !(s.config.Storage() != "" && setsAccess(c)) {
		return notSupported()
	}
	return s.route(c)
}

func notSupported() error { return fault.New(fault.NotSupported, "") }

// route answers what is asked of a path.
func (s *server) route(c *call) error {
	action := strings.ToLower(c.query["action"])
	if setsAccess(c) && s.config.Storage() != "" {
		if action == "setaccesscontrol" {
			return s.setAccessControl(c)
		}
		return s.setAccessControlRecursive(c)
	}
	if setsAccess(c) {
		return storagewire.Coded(fault.InvalidArgument, "UnsupportedQueryParameter",
			"Access control lists are not set here: access follows from the roles in the workspace.")
	}
	switch c.method {
	case http.MethodPut:
		switch {
		case c.r.Header.Get("x-ms-rename-source") != "":
			return s.rename(c)
		case c.query.Has("resource"):
			return s.create(c)
		}
	case http.MethodPatch:
		switch action {
		case "append":
			return s.append(c)
		case "flush":
			return s.flush(c)
		case "setproperties":
			return s.setProperties(c)
		}
	case http.MethodHead:
		if len(c.path.Segments) == 0 && (s.config.Storage() == "" || action == "") {
			return s.root(c)
		}
		return s.head(c, action)
	case http.MethodGet:
		if action == "" {
			return s.read(c)
		}
	case http.MethodDelete:
		return s.delete(c)
	case http.MethodPost:
		if c.r.Header.Get("x-ms-lease-action") != "" {
			return s.lease(c)
		}
	default:
		return fault.New(fault.MethodNotAllowed, "")
	}
	return notSupported()
}

var faults = func() storagewire.Table {
	t := storagewire.Common()
	notFound := storagewire.Row{Status: 404, Code: "PathNotFound", Message: "The specified path does not exist."}
	noFilesystem := storagewire.Row{Status: 404, Code: "FilesystemNotFound", Message: "The specified filesystem does not exist."}
	t[fault.PathNotFound] = notFound
	t[fault.ItemNotFound] = notFound
	t[fault.WorkspaceNotFound] = noFilesystem
	t[fault.ContainerNotFound] = noFilesystem
	t[fault.ContainerExists] = storagewire.Row{Status: 409, Code: "FilesystemAlreadyExists", Message: "The specified filesystem already exists."}
	t[fault.PathExists] = storagewire.Row{Status: 409, Code: "PathAlreadyExists", Message: "The specified path already exists."}
	t[fault.PathConflict] = storagewire.Row{Status: 409, Code: "PathConflict", Message: "The specified path, or an element of the path, exists and its resource type is invalid for this operation."}
	t[fault.DirectoryNotEmpty] = storagewire.Row{Status: 409, Code: "DirectoryNotEmpty", Message: "The recursive query parameter value must be true to delete a non-empty directory."}
	t[fault.InvalidRename] = storagewire.Row{Status: 409, Code: "InvalidRenameSourcePath", Message: "The source directory cannot be the same as the destination directory, nor can the destination be a subdirectory of the source directory."}
	t[fault.SourceNotFound] = storagewire.Row{Status: 404, Code: "SourcePathNotFound", Message: "The source path for a rename operation does not exist."}
	t[fault.LeaseHeld] = storagewire.Row{Status: 412, Code: "LeaseIdMissing", Message: "There is currently a lease on the resource and no lease ID was specified in the request."}
	return t
}()

type errorBody struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// fail answers a failed request in the protocol's shape.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	s.config.Fail(w, r, faults, err, func(status int, code, message string) {
		var body errorBody
		body.Error.Code, body.Error.Message = code, message
		api.WriteJSON(w, status, body)
	})
}
