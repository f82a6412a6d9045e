package blob

import (
	"encoding/base64"
	"encoding/xml"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// maxPage is the most entries of one page, as in Azure.
const maxPage = 5000

type enumeration struct {
	XMLName         xml.Name `xml:"EnumerationResults"`
	ServiceEndpoint string   `xml:",attr"`
	ContainerName   string   `xml:",attr,omitempty"`
	Prefix          string   `xml:",omitempty"`
	Marker          string   `xml:",omitempty"`
	MaxResults      int64    `xml:",omitempty"`
	Delimiter       string   `xml:",omitempty"`

	Containers *containerEntries
	Blobs      *blobEntries
	NextMarker string
}

type containerEntries struct {
	Container []containerEntry
}

type containerEntry struct {
	Name       string
	Properties containerDetails
	Metadata   *metadata
}

type containerDetails struct {
	LastModified          string `xml:"Last-Modified"`
	ETag                  string `xml:"Etag"`
	LeaseStatus           string
	LeaseState            string
	LeaseDuration         string `xml:",omitempty"`
	HasImmutabilityPolicy bool
	HasLegalHold          bool
}

type blobEntries struct {
	Entries []any // blobEntry and prefixEntry, in order
}

type blobEntry struct {
	XMLName    xml.Name `xml:"Blob"`
	Name       entryName
	Properties details
	Metadata   *metadata
}

type prefixEntry struct {
	XMLName xml.Name `xml:"BlobPrefix"`
	Name    entryName
}

type details struct {
	CreationTime       string `xml:"Creation-Time,omitempty"`
	LastModified       string `xml:"Last-Modified"`
	ETag               string `xml:"Etag"`
	ResourceType       string
	ContentLength      int64  `xml:"Content-Length"`
	ContentType        string `xml:"Content-Type"`
	ContentEncoding    string `xml:"Content-Encoding"`
	ContentLanguage    string `xml:"Content-Language"`
	ContentMD5         string `xml:"Content-MD5"`
	CacheControl       string `xml:"Cache-Control"`
	ContentDisposition string `xml:"Content-Disposition"`
	BlobType           string
	AccessTier         string `xml:",omitempty"`
	AccessTierInferred bool   `xml:",omitempty"`
	AccessTierChange   string `xml:"AccessTierChangeTime,omitempty"`
	LeaseStatus        string
	LeaseState         string
	LeaseDuration      string `xml:",omitempty"`
	ServerEncrypted    bool

	CopyID             string `xml:"CopyId,omitempty"`
	CopySource         string `xml:",omitempty"`
	CopyStatus         string `xml:",omitempty"`
	CopyProgress       string `xml:",omitempty"`
	CopyCompletionTime string `xml:",omitempty"`
}

// An entryName is a name in a listing. One that XML cannot carry is percent-encoded
// and says so, as in Azure since version 2021-02-12.
type entryName struct {
	Encoded bool   `xml:",attr,omitempty"`
	Text    string `xml:",chardata"`
}

func newEntryName(s string) entryName {
	if !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0xfffe || r == 0xffff || r == 0xfffd }) {
		return entryName{Text: s}
	}
	// Clients undo this as a query or as a path; both read %20 the same.
	return entryName{Encoded: true, Text: strings.ReplaceAll(url.QueryEscape(s), "+", "%20")}
}

// metadata is user metadata: an element a name. The names are identifiers, which
// are names of elements too.
type metadata map[string]string

func (m metadata) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if err := e.EncodeElement(m[k], xml.StartElement{Name: xml.Name{Local: k}}); err != nil {
			return err
		}
	}
	return e.EncodeToken(start.End())
}

// An inclusion is what a listing shows of each blob beside its properties.
type inclusion struct{ metadata, copies, tiers bool }

func newBlobEntry(p lake.Properties, with inclusion) blobEntry {
	status, state, duration := storagewire.LeaseStatus(p.Lease)
	d := details{
		LastModified:       p.Modified.UTC().Format(http.TimeFormat),
		ETag:               strings.Trim(p.ETag, `"`),
		ResourceType:       "file",
		ContentLength:      p.Size,
		ContentType:        p.Headers.Type,
		ContentEncoding:    p.Headers.Encoding,
		ContentLanguage:    p.Headers.Language,
		ContentMD5:         base64.StdEncoding.EncodeToString(p.Headers.MD5),
		CacheControl:       p.Headers.CacheControl,
		ContentDisposition: p.Headers.Disposition,
		BlobType:           blobType(p),
		LeaseStatus:        status,
		LeaseState:         state,
		LeaseDuration:      duration,
		ServerEncrypted:    true,
	}
	switch {
	case !with.tiers || p.Kind != lake.File:
	case p.Tier == "":
		d.AccessTier, d.AccessTierInferred = string(lake.Hot), true
	default:
		d.AccessTier, d.AccessTierChange = string(p.Tier), p.Tiered.UTC().Format(http.TimeFormat)
	}
	if c := p.Copy; c != nil && with.copies {
		d.CopyID, d.CopySource, d.CopyStatus, d.CopyProgress = c.ID, c.Source, "success", copyProgress(c)
		d.CopyCompletionTime = c.Completed.UTC().Format(http.TimeFormat)
	}
	if d.ContentType == "" {
		d.ContentType = "application/octet-stream"
	}
	if !p.Created.IsZero() {
		d.CreationTime = p.Created.UTC().Format(http.TimeFormat)
	}
	e := blobEntry{Name: newEntryName(p.Name), Properties: d}
	m := metadata(maps.Clone(p.Metadata))
	if p.Kind == lake.Folder {
		e.Properties.ResourceType = "directory"
		if m == nil {
			m = metadata{}
		}
		m[folderMark] = "true"
	}
	if with.metadata {
		e.Metadata = &m
	}
	return e
}

// page reads the parameters that all listings have.
func page(q storagewire.Query) (int64, error) {
	n, err := q.Int("maxresults", 1, 0)
	return min(n, maxPage), err
}

// listBlobs answers List Blobs.
func (s *server) listBlobs(c *call) error {
	q := c.query
	n, err := page(q)
	if err != nil {
		return err
	}
	delimiter := q["delimiter"]
	if delimiter != "" && delimiter != "/" {
		return fault.New(fault.NotSupported, "The only delimiter of a hierarchical namespace is the slash.")
	}
	include := strings.Split(strings.ToLower(q["include"]), ",")
	with := inclusion{slices.Contains(include, "metadata"), slices.Contains(include, "copy"), s.config.Storage() != ""}
	listing, err := s.lake.List(c.r.Context(), c.caller, c.path, lake.ListOptions{
		Prefix:          q["prefix"],
		Delimited:       delimiter != "",
		Recursive:       delimiter == "",
		Max:             int(n),
		Continuation:    q["marker"],
		StartFrom:       q["startfrom"],
		EndBefore:       q["endbefore"],
		IncludeMetadata: with.metadata || with.copies,

		IncludeUncommitted: slices.Contains(include, "uncommittedblobs"),
	})
	if err != nil {
		return err
	}
	writeXML(c.w, http.StatusOK, enumeration{
		ServiceEndpoint: "https://" + c.r.Host + "/",
		ContainerName:   c.path.Container,
		Prefix:          q["prefix"],
		Marker:          q["marker"],
		MaxResults:      n,
		Delimiter:       delimiter,
		Blobs:           &blobEntries{Entries: merge(listing, with)},
		NextMarker:      listing.Continuation,
	})
	return nil
}

// merge brings a page's blobs and prefixes into the one order that Azure lists them
// in.
func merge(l lake.Listing, with inclusion) []any {
	entries, prefixes := l.Entries, l.Prefixes
	out := make([]any, 0, len(entries)+len(prefixes))
	for len(entries)+len(prefixes) > 0 {
		if len(prefixes) == 0 || len(entries) > 0 && entries[0].Name < prefixes[0] {
			out = append(out, newBlobEntry(entries[0], with))
			entries = entries[1:]
			continue
		}
		out = append(out, prefixEntry{Name: newEntryName(prefixes[0])})
		prefixes = prefixes[1:]
	}
	return out
}

// listContainers answers List Containers. The lake gives all of them in order; the
// marker is the name at which the next page begins.
func (s *server) listContainers(c *call) error {
	n, err := page(c.query)
	if err != nil {
		return err
	}
	prefix, marker := c.query["prefix"], c.query["marker"]
	with := slices.Contains(strings.Split(strings.ToLower(c.query["include"]), ","), "metadata")
	containers, err := s.lake.ListContainers(c.r.Context(), c.caller, s.config.Storage(), prefix)
	if err != nil {
		return err
	}
	body := enumeration{
		ServiceEndpoint: "https://" + c.r.Host + "/",
		Prefix:          prefix, Marker: marker, MaxResults: n,
		Containers: &containerEntries{},
	}
	most := int(n)
	if most == 0 {
		most = maxPage
	}
	for _, p := range containers {
		if p.Name < marker {
			continue
		}
		if len(body.Containers.Container) == most {
			body.NextMarker = p.Name
			break
		}
		body.Containers.Container = append(body.Containers.Container, newContainerEntry(p, with))
	}
	writeXML(c.w, http.StatusOK, body)
	return nil
}

func newContainerEntry(p lake.ContainerProperties, withMetadata bool) containerEntry {
	status, state, duration := storagewire.LeaseStatus(p.Lease)
	e := containerEntry{
		Name: p.Name,
		Properties: containerDetails{
			LastModified:  p.Modified.UTC().Format(http.TimeFormat),
			ETag:          strings.Trim(p.ETag, `"`),
			LeaseStatus:   status,
			LeaseState:    state,
			LeaseDuration: duration,
		},
	}
	if m := metadata(p.Metadata); withMetadata {
		e.Metadata = &m
	}
	return e
}
