package dfs

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

type filesystemsBody struct {
	Filesystems []filesystemEntry `json:"filesystems"`
}

type filesystemEntry struct {
	Name         string `json:"name"`
	LastModified string `json:"lastModified"`
	ETag         string `json:"etag"`
}

// account answers Filesystem - List. The continuation is the name at which the next
// page begins.
func (s *server) account(c *call) error {
	if c.method != http.MethodGet || c.query["resource"] != "account" {
		return notSupported()
	}
	most, err := c.query.Int("maxresults", 1, maxPage)
	if err != nil {
		return err
	}
	containers, err := s.lake.ListContainers(c.r.Context(), c.caller, s.config.Storage(), c.query["prefix"])
	if err != nil {
		return err
	}
	from, err := url.PathUnescape(c.query["continuation"])
	if err != nil {
		return fault.New(fault.InvalidContinuation, "")
	}
	body := filesystemsBody{Filesystems: []filesystemEntry{}}
	for _, p := range containers {
		if p.Name < from {
			continue
		}
		if len(body.Filesystems) == int(min(most, maxPage)) {
			c.w.Header().Set("x-ms-continuation", url.PathEscape(p.Name))
			break
		}
		body.Filesystems = append(body.Filesystems, filesystemEntry{
			Name: p.Name, LastModified: p.Modified.UTC().Format(http.TimeFormat), ETag: strings.Trim(p.ETag, `"`),
		})
	}
	api.WriteJSON(c.w, http.StatusOK, body)
	return nil
}

// filesystem answers what is asked with resource=filesystem. A filesystem is a
// workspace, which storage clients neither make nor remove.
func (s *server) filesystem(c *call) error {
	if len(c.path.Segments) > 0 && c.method != http.MethodGet {
		return fault.New(fault.InvalidPath, "The path of a filesystem has one segment.")
	}
	switch c.method {
	case http.MethodGet:
		return s.list(c)
	case http.MethodHead:
		return s.root(c)
	case http.MethodPatch, http.MethodDelete:
		if s.config.Storage() != "" {
			return s.changeFilesystem(c)
		}
	case http.MethodPut:
		if s.config.Storage() != "" {
			return s.createFilesystem(c)
		}
		_, err := s.lake.Container(c.r.Context(), c.caller, c.path, lake.Conditions{})
		switch fault.ReasonOf(err) {
		case "":
			return fault.New(fault.ContainerExists, "")
		case fault.ContainerNotFound, fault.WorkspaceNotFound:
			return fault.New(fault.NotSupported, "Filesystems cannot be created here.").WithMend("Create the workspace first.")
		}
		return err
	}
	return notSupported()
}

// root answers HEAD of a filesystem: Filesystem - Get Properties, and the status
// and access control of its root, by which Hadoop finds out that the namespace is
// hierarchical.
func (s *server) root(c *call) error {
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
	h.Set("x-ms-namespace-enabled", "true")
	h.Set("x-ms-properties", "")
	h.Set("x-ms-resource-type", "directory")
	if s.config.Storage() == "" {
		if err := s.setAccess(c, lake.Properties{}); err != nil {
			return err
		}
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// maxPage is the most entries of one page, as in Azure.
const maxPage = 5000

type pathsBody struct {
	Paths []pathEntry `json:"paths"`
}

// A pathEntry is a file or folder in a listing. Numbers and truths are strings
// there.
type pathEntry struct {
	Name          string `json:"name"`
	IsDirectory   string `json:"isDirectory,omitempty"`
	ContentLength string `json:"contentLength"`
	CreationTime  string `json:"creationTime,omitempty"`
	LastModified  string `json:"lastModified"`
	ETag          string `json:"etag"`
	Owner         string `json:"owner"`
	Group         string `json:"group"`
	Permissions   string `json:"permissions"`
	Context       string `json:"EncryptionContext,omitempty"`
}

func (s *server) newPathEntry(p lake.Properties) pathEntry {
	e := pathEntry{
		Name:          p.Name,
		ContentLength: strconv.FormatInt(p.Size, 10),
		CreationTime:  fileTime(p.Created),
		LastModified:  p.Modified.UTC().Format(http.TimeFormat),
		ETag:          strings.Trim(p.ETag, `"`),
		Owner:         storagewire.Superuser,
		Group:         storagewire.Superuser,
		Permissions:   storagewire.Permissions,
	}
	if s.config.Storage() != "" {
		e.Owner, e.Group, e.Permissions, e.Context = p.Access.Owner, p.Access.Group, p.Access.Mode.String(), p.Context
	}
	if p.Kind == lake.Folder {
		e.IsDirectory = "true"
	}
	return e
}

// fileTime writes a time as the listing has it: in units of 100 ns since 1601.
func fileTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	const epoch = 116444736000000000 // 1970 in that count
	return strconv.FormatInt(t.UnixMicro()*10+epoch, 10)
}

// list answers Path - List. The folder stands in the query, or, as some clients
// have it, in the path.
func (s *server) list(c *call) error {
	q := c.query
	most, err := q.Int("maxresults", 1, 0)
	if err != nil {
		return err
	}
	recursive, err := q.Bool("recursive")
	if err != nil {
		return err
	}
	folder := c.path
	if d := strings.Trim(q["directory"], "/"); d != "" {
		if len(folder.Segments) > 0 {
			return storagewire.Coded(fault.InvalidArgument, "InvalidQueryParameterValue", "The directory stands in the path and in the query.")
		}
		if folder, err = s.config.ParsePath("/" + url.PathEscape(folder.Container) + "/" + url.PathEscape(d)); err != nil {
			return err
		}
	}
	listing, err := s.lake.List(c.r.Context(), c.caller, folder, lake.ListOptions{
		Recursive:    recursive,
		Max:          int(min(most, maxPage)),
		Continuation: q["continuation"],
	})
	if err != nil {
		return err
	}
	body := pathsBody{Paths: make([]pathEntry, len(listing.Entries))}
	for i, p := range listing.Entries {
		body.Paths[i] = s.newPathEntry(p)
	}
	h := c.w.Header()
	if listing.Continuation != "" {
		h.Set("x-ms-continuation", listing.Continuation)
	}
	api.WriteJSON(c.w, http.StatusOK, body)
	return nil
}
