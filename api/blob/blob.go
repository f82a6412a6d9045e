// Package blob speaks Azure Blob Storage's REST API over package lake, as far as
// block and append blobs in a hierarchical namespace go: a container is a
// workspace, and a blob is a file below one of its items.
//
// It answers what it leaves out (page blobs, snapshots, versions, undelete, tags,
// client-provided keys) with Azure's own errors, and holds no
// rule of its own. See
// https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api.
package blob

import (
	"context"
	"encoding/xml"
	"io"
	"net/http"
	"strconv"
	"time"

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
	AccessPolicies(ctx context.Context, caller identity.Caller, p lake.Path, c lake.Conditions) (lake.ContainerProperties, []lake.AccessPolicy, error)
	SetAccessPolicies(ctx context.Context, caller identity.Caller, p lake.Path, policies []lake.AccessPolicy, c lake.Conditions) (lake.ContainerProperties, error)
	LeaseContainer(ctx context.Context, caller identity.Caller, p lake.Path, r lake.LeaseRequest) (lake.ContainerProperties, error)
	DeleteContainer(ctx context.Context, caller identity.Caller, p lake.Path, c lake.Conditions) error
	Stat(ctx context.Context, caller identity.Caller, p lake.Path, c lake.Conditions) (lake.Properties, error)
	Open(ctx context.Context, caller identity.Caller, p lake.Path, c lake.Conditions, r lake.Range) (*lake.Content, error)
	Put(ctx context.Context, caller identity.Caller, p lake.Path, body io.Reader, size int64, o lake.PutOptions) (lake.Properties, error)
	StageBlock(ctx context.Context, caller identity.Caller, p lake.Path, blockID string, body io.Reader, size int64, o lake.StageOptions) (crc64 uint64, err error)
	CommitBlocks(ctx context.Context, caller identity.Caller, p lake.Path, blocks []lake.BlockRef, o lake.PutOptions) (lake.Properties, error)
	Blocks(ctx context.Context, caller identity.Caller, p lake.Path) (lake.BlockList, error)
	Create(ctx context.Context, caller identity.Caller, p lake.Path, k lake.Kind, o lake.PutOptions) (lake.Properties, error)
	List(ctx context.Context, caller identity.Caller, p lake.Path, o lake.ListOptions) (lake.Listing, error)
	Delete(ctx context.Context, caller identity.Caller, p lake.Path, recursive bool, c lake.Conditions) error
	SetMetadata(ctx context.Context, caller identity.Caller, p lake.Path, metadata map[string]string, c lake.Conditions) (lake.Properties, error)
	AppendBlock(ctx context.Context, caller identity.Caller, p lake.Path, body io.Reader, size int64, o lake.AppendOptions) (lake.Appended, error)
	Copy(ctx context.Context, caller identity.Caller, to lake.Path, src lake.Source, o lake.CopyOptions) (lake.Properties, error)
	StageBlockFrom(ctx context.Context, caller identity.Caller, p lake.Path, blockID string, src lake.Source, o lake.StageOptions) (crc64 uint64, err error)
	AppendBlockFrom(ctx context.Context, caller identity.Caller, p lake.Path, src lake.Source, o lake.AppendOptions) (lake.Appended, error)
	Lease(ctx context.Context, caller identity.Caller, p lake.Path, r lake.LeaseRequest) (lake.Properties, error)
	DelegationKey(ctx context.Context, caller identity.Caller, account string, start, expiry time.Time, version string) (lake.DelegationKey, error)
	DelegationValue(lake.DelegationKey) ([]byte, error)
	SetTier(ctx context.Context, caller identity.Caller, p lake.Path, t lake.Tier, c lake.Conditions) (lake.Tier, error)
	SetHeaders(ctx context.Context, caller identity.Caller, p lake.Path, h lake.ContentHeaders, c lake.Conditions) (lake.Properties, error)
}

// New returns the handler of a Blob endpoint. The paths that it gets begin with the
// container; an account's name before it is taken off by the caller.
func New(l Lake, tokens api.Tokens, c storagewire.Config) http.Handler {
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
	query  storagewire.Query
	caller identity.Caller
	path   lake.Path // zero for the service itself
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.config.Serve(w, r, s.serve, s.fail)
}

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
	if err := refuse(r, q); err != nil {
		return err
	}
	c := &call{w: storagewire.Override(w, r, q), r: r, query: q, caller: caller}
	if read := r.Method == http.MethodGet || r.Method == http.MethodHead; read && q["comp"] == "properties" && q["restype"] == "account" {
		return s.accountInfo(c) // of whatever in it
	}
	escaped := r.URL.EscapedPath()
	if escaped == "" || escaped == "/" {
		return s.service(c)
	}
	if c.path, err = s.config.ParsePath(escaped); err != nil {
		return err
	}
	if q["restype"] == "container" || len(c.path.Segments) == 0 {
		return s.container(c)
	}
	return s.blob(c)
}

// refuse refuses what would mean something else if it were ignored.
func refuse(r *http.Request, q storagewire.Query) error {
	if err := storagewire.RefuseKeys(r.Header); err != nil {
		return err
	}
	for _, name := range []string{"snapshot", "versionid", "deletetype"} {
		if q.Has(name) {
			return fault.New(fault.NotSupported, "Snapshots and versions are not supported.")
		}
	}
	return storagewire.Refuse(r.Header)
}

func notSupported() error { return fault.New(fault.NotSupported, "") }

// service answers what is asked of the account.
func (s *server) service(c *call) error {
	switch comp, restype := c.query["comp"], c.query["restype"]; {
	case c.r.Method == http.MethodGet && comp == "list" && restype == "":
		return s.listContainers(c)
	case c.r.Method == http.MethodGet && comp == "properties" && restype == "service":
		return s.serviceProperties(c)
	case c.r.Method == http.MethodPut && comp == "properties" && restype == "service" && s.config.Services != nil:
		return s.setServiceProperties(c)
	case c.r.Method == http.MethodGet && comp == "stats" && restype == "service" && s.config.Services != nil:
		return s.serviceStats(c)
	case c.r.Method == http.MethodPost && comp == "userdelegationkey" && restype == "service":
		return s.delegationKey(c)
	case c.r.Method == http.MethodPost && comp == "batch" && (restype == "" || restype == "container"):
		// On path-style addresses a client takes the account for a container.
		return s.batch(c, "")
	}
	return notSupported()
}

// container answers what is asked of a container.
func (s *server) container(c *call) error {
	if len(c.path.Segments) > 0 {
		return fault.New(fault.InvalidPath, "The path of a container has one segment.")
	}
	comp := c.query["comp"]
	switch c.r.Method {
	case http.MethodGet, http.MethodHead:
		switch {
		case comp == "" || comp == "metadata":
			return s.containerProperties(c)
		case comp == "list" && c.r.Method == http.MethodGet:
			return s.listBlobs(c)
		case comp == "acl" && s.config.Storage() != "":
			return s.policies(c)
		}
	case http.MethodPut:
		switch {
		case comp == "" && s.config.Storage() != "":
			return s.newContainer(c)
		case comp == "":
			return s.createContainer(c)
		case comp == "metadata" && s.config.Storage() != "":
			return s.setContainerMetadata(c)
		case comp == "acl" && s.config.Storage() != "":
			return s.setPolicies(c)
		case comp == "lease" && s.config.Storage() != "":
			return s.leaseContainer(c)
		}
	case http.MethodDelete:
		if comp == "" && s.config.Storage() != "" {
			return s.deleteContainer(c)
		}
	case http.MethodPost:
		if comp == "batch" {
			return s.batch(c, c.path.Container)
		}
	}
	return notSupported()
}

func (s *server) containerProperties(c *call) error {
	conditions, err := storagewire.ParseConditions(c.r.Header, "")
	if err != nil {
		return err
	}
	p, err := s.lake.Container(c.r.Context(), c.caller, c.path, conditions)
	if err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("ETag", p.ETag)
	h.Set("Last-Modified", p.Modified.UTC().Format(http.TimeFormat))
	storagewire.SetMetadata(h, p.Metadata)
	status, state, duration := storagewire.LeaseStatus(p.Lease)
	if duration != "" {
		h.Set("x-ms-lease-duration", duration)
	}
	for name, v := range map[string]string{
		"x-ms-lease-status":                              status,
		"x-ms-lease-state":                               state,
		"x-ms-has-immutability-policy":                   "false",
		"x-ms-has-legal-hold":                            "false",
		"x-ms-default-encryption-scope":                  "$account-encryption-key",
		"x-ms-deny-encryption-scope-override":            "true",
		"x-ms-immutable-storage-with-versioning-enabled": "false",
	} {
		h.Set(name, v)
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// createContainer creates nothing: a workspace is made by its owner, not by a
// storage client. Clients that create the container before they use it continue if
// they are told that it exists.
func (s *server) createContainer(c *call) error {
	_, err := s.lake.Container(c.r.Context(), c.caller, c.path, lake.Conditions{})
	switch fault.ReasonOf(err) {
	case "":
		return fault.New(fault.ContainerExists, "")
	case fault.ContainerNotFound, fault.WorkspaceNotFound:
		return fault.New(fault.NotSupported, "Containers cannot be created here.").WithMend("Create the workspace first.")
	}
	return err
}

// blob answers what is asked of a blob.
func (s *server) blob(c *call) error {
	comp := c.query["comp"]
	if c.query.Has("restype") {
		return notSupported()
	}
	switch c.r.Method {
	case http.MethodGet:
		switch comp {
		case "":
			return s.get(c)
		case "metadata":
			return s.head(c)
		case "blocklist":
			return s.blockList(c)
		}
	case http.MethodHead:
		switch comp {
		case "", "metadata":
			return s.head(c)
		}
	case http.MethodPut:
		switch comp {
		case "":
			if c.r.Header.Get("x-ms-copy-source") != "" {
				return s.copy(c)
			}
			return s.put(c)
		case "copy":
			return s.abortCopy(c)
		case "appendblock":
			return s.appendBlock(c)
		case "lease":
			return s.lease(c)
		case "tier":
			return s.setTier(c)
		case "block":
			return s.putBlock(c)
		case "blocklist":
			return s.putBlockList(c)
		case "metadata":
			return s.setMetadata(c)
		case "properties":
			return s.setProperties(c)
		}
	case http.MethodDelete:
		if comp == "" {
			return s.delete(c)
		}
	case http.MethodPost:
	default:
		return fault.New(fault.MethodNotAllowed, "")
	}
	return notSupported()
}

var faults = func() storagewire.Table {
	t := storagewire.Common()
	notFound := storagewire.Row{Status: 404, Code: "BlobNotFound", Message: "The specified blob does not exist."}
	noContainer := storagewire.Row{Status: 404, Code: "ContainerNotFound", Message: "The specified container does not exist."}
	t[fault.PathNotFound] = notFound
	t[fault.ItemNotFound] = notFound
	t[fault.WorkspaceNotFound] = noContainer
	t[fault.ContainerNotFound] = noContainer
	t[fault.ContainerExists] = storagewire.Row{Status: 409, Code: "ContainerAlreadyExists", Message: "The specified container already exists."}
	t[fault.PathExists] = storagewire.Row{Status: 409, Code: "BlobAlreadyExists", Message: "The specified blob already exists."}
	t[fault.PathConflict] = storagewire.Row{Status: 409, Code: "ResourceTypeMismatch", Message: "The specified resource type does not match the type of the existing resource."}
	t[fault.DirectoryNotEmpty] = storagewire.Row{Status: 409, Code: "DirectoryIsNotEmpty", Message: "This operation is not permitted on a non-empty directory."}
	t[fault.InvalidRename] = storagewire.Row{Status: 400, Code: "InvalidInput", Message: "One of the request inputs is not valid."}
	t[fault.SourceNotFound] = storagewire.Row{Status: 404, Code: "CannotVerifyCopySource", Message: "The source does not exist."}
	t[fault.LeaseHeld] = storagewire.Row{Status: 412, Code: "LeaseIdMissing", Message: "There is currently a lease on the blob and no lease ID was specified in the request."}
	return t
}()

type errorBody struct {
	XMLName xml.Name `xml:"Error"`
	Code    string
	Message string
}

// fail answers a failed request in the protocol's shape.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	s.config.Fail(w, r, faults, err, func(status int, code, message string) {
		writeXML(w, status, errorBody{Code: code, Message: message})
	})
}

func writeXML(w http.ResponseWriter, status int, v any) {
	body, err := xml.Marshal(v)
	if err != nil { // only a programming error gets here
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(xml.Header)+len(body)))
	w.WriteHeader(status)
	io.WriteString(w, xml.Header)
	w.Write(body)
}
