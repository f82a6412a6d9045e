package storagewire

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// A level is what a request is about, in an account's signature (srt).
type level byte

const (
	serviceLevel   level = 's'
	containerLevel level = 'c'
	objectLevel    level = 'o'
)

// A target is what a request is about.
type target struct {
	level level
	path  lake.Path // its own or, for a listing, that of the folder which it lists
}

// target returns what a request is about, as the dialect's adapter takes it.
func (c Config) target(r *http.Request, q Query) (t target, err error) {
	t = target{serviceLevel, lake.Path{Account: c.Storage()}}
	escaped := r.URL.EscapedPath()
	if escaped == "" || escaped == "/" {
		return t, nil
	}
	if t.path, err = c.ParsePath(escaped); err != nil {
		return t, err
	}
	t.level = objectLevel
	if len(t.path.Segments) == 0 || !c.DFS && q["restype"] == "container" || c.DFS && q["resource"] == "filesystem" {
		t.level = containerLevel
	}
	if len(t.path.Segments) > 0 {
		return t, nil
	}
	folder := ""
	switch {
	case c.DFS && q["resource"] == "filesystem":
		folder = q["directory"]
	case !c.DFS && q["comp"] == "list":
		// A prefix may end inside a name: only what is before its last slash is a folder.
		folder = q["prefix"][:strings.LastIndexByte(q["prefix"], '/')+1]
	}
	if folder = strings.Trim(folder, "/"); folder != "" {
		t.path, err = c.ParsePath("/" + url.PathEscape(t.path.Container) + "/" + url.PathEscape(folder))
	}
	return t, err
}

// permit refuses what the signature does not permit.
func (s signature) permit(c Config, r *http.Request, t target) error {
	q, lvl, any := s.q, t.level, c.needs(r, s.q, t.level)
	if s.resource == "" {
		if !strings.Contains(q["ss"], "b") {
			return Coded(fault.Denied, "AuthorizationServiceMismatch", "This request is not authorized to perform this operation using this service.")
		}
		if !strings.Contains(q["srt"], string(lvl)) {
			return Coded(fault.Denied, "AuthorizationResourceTypeMismatch", "This request is not authorized to perform this operation using this resource type.")
		}
	} else if lvl == serviceLevel || lvl == containerLevel && any != "l" && any != "d+" {
		// A container's own properties and life are not a service signature's.
		return Coded(fault.Denied, "AuthorizationFailure", "This request is not authorized to perform this operation.")
	}
	any = strings.TrimSuffix(any, "+")
	if err := s.renames(c, r, t.path); err != nil {
		return err
	}
	if any == "" || !strings.ContainsAny(q["sp"], any) {
		return Coded(fault.Denied, "AuthorizationPermissionMismatch", "This request is not authorized to perform this operation using this permission.")
	}
	if strings.Contains(any, "c") && !strings.ContainsAny(q["sp"], strings.ReplaceAll(any, "c", "")) && lvl == objectLevel {
		// It permits to create, and not to replace.
		r.Header.Set("If-None-Match", "*")
	}
	return nil
}

// renames checks the source of a rename: it must lie within the signature too, which
// must permit to move or delete it.
func (s signature) renames(c Config, r *http.Request, at lake.Path) error {
	source := r.Header.Get("x-ms-rename-source")
	if source == "" {
		return nil
	}
	if !strings.ContainsAny(s.q["sp"], "md") || s.resource == "b" {
		return outside()
	}
	source, _, _ = strings.Cut(source, "?")
	from, err := c.ParsePath("/" + strings.TrimPrefix(source, "/"))
	if err == nil && strings.EqualFold(from.Container, c.Account) && !strings.EqualFold(at.Container, c.Account) {
		_, rest, _ := strings.Cut(strings.TrimPrefix(source, "/"), "/")
		from, err = c.ParsePath("/" + rest)
	}
	if err != nil {
		return err
	}
	mine, _ := s.canonical(c.Account, at)
	theirs, ok := s.canonical(c.Account, from)
	if s.resource != "" && (!ok || mine != theirs) {
		return outside()
	}
	return nil
}

// needs returns the permissions of which a signature must give one for a request: ""
// if none would do. See the tables at
// https://learn.microsoft.com/rest/api/storageservices/create-service-sas and …/create-account-sas.
func (c Config) needs(r *http.Request, q Query, l level) string {
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case l == serviceLevel && read && (q["comp"] == "list" || q["resource"] == "account"):
		return "l"
	case l == serviceLevel && read:
		return "r"
	case l == serviceLevel && q["comp"] == "batch":
		return "dw"
	case l == serviceLevel && r.Method == http.MethodPut && q["comp"] == "properties":
		return "w"
	case l == serviceLevel:
		return ""
	case l == containerLevel:
		return containerNeeds(r, q, read)
	case c.DFS:
		return pathNeeds(r, q, read)
	}
	return blobNeeds(r, q, read)
}

func containerNeeds(r *http.Request, q Query, read bool) string {
	switch {
	case read && (q["comp"] == "list" || q["resource"] == "filesystem" && r.Method == http.MethodGet):
		return "l"
	case read && q["action"] != "":
		return "e"
	case read:
		return "r"
	case r.Method == http.MethodPost && q["comp"] == "batch":
		return "d+"
	case r.Method == http.MethodPut && q["comp"] == "" && q["action"] == "":
		return "cw"
	case r.Method == http.MethodDelete:
		return "d"
	case q["comp"] == "metadata", q["comp"] == "lease", r.Method == http.MethodPatch && q["action"] == "":
		return "w"
	case q["action"] == "setaccesscontrol":
		return "p"
	}
	return ""
}

func blobNeeds(r *http.Request, q Query, read bool) string {
	switch comp := q["comp"]; {
	case read:
		return "r"
	case r.Method == http.MethodDelete:
		return "d"
	case r.Method != http.MethodPut:
		return ""
	case comp == "appendblock":
		return "aw"
	case comp == "", comp == "block", comp == "blocklist":
		return "cw"
	}
	return "w"
}

func pathNeeds(r *http.Request, q Query, read bool) string {
	action := strings.ToLower(q["action"])
	switch {
	case r.Method == http.MethodHead && (action == "getaccesscontrol" || action == "getstatus"):
		return "er"
	case read:
		return "r"
	case r.Method == http.MethodDelete:
		return "d"
	case strings.HasPrefix(action, "setaccesscontrol"):
		if r.Header.Get("x-ms-owner") != "" || r.Header.Get("x-ms-group") != "" {
			return "o"
		}
		return "p"
	case action == "append":
		return "aw"
	case r.Method == http.MethodPut && action == "":
		return "cw"
	}
	return "w"
}
