package blob

import (
	"encoding/xml"
	"io"
	"net/http"
	"time"

	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// maxPoliciesXML bounds the body that sets stored access policies, in bytes.
const maxPoliciesXML = 16 << 10

type (
	signedIdentifiers struct {
		XMLName     xml.Name           `xml:"SignedIdentifiers"`
		Identifiers []signedIdentifier `xml:"SignedIdentifier"`
	}
	signedIdentifier struct {
		ID     string        `xml:"Id"`
		Policy *accessPolicy `xml:"AccessPolicy"`
	}
	accessPolicy struct {
		Start      string `xml:",omitempty"`
		Expiry     string `xml:",omitempty"`
		Permission string `xml:",omitempty"`
	}
)

// parsePolicies reads the body of Set Container ACL.
func parsePolicies(body []byte) ([]lake.AccessPolicy, error) {
	if len(body) == 0 {
		return nil, nil
	}
	var doc signedIdentifiers
	if err := xml.Unmarshal(body, &doc); err != nil {
		return nil, invalidXML(err)
	}
	var out []lake.AccessPolicy
	for _, id := range doc.Identifiers {
		p := lake.AccessPolicy{ID: id.ID}
		if id.Policy != nil {
			p.Permissions = id.Policy.Permission
			for _, t := range []struct {
				text string
				into *time.Time
			}{{id.Policy.Start, &p.Start}, {id.Policy.Expiry, &p.Expiry}} {
				var ok bool
				if *t.into, ok = storagewire.ParseTime(t.text); !ok && t.text != "" {
					return nil, storagewire.Coded(fault.InvalidArgument, "InvalidXmlNodeValue", "The value for one of the XML nodes is not in the correct format.")
				}
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// setPolicies answers Set Container ACL. Nobody reads a container without being
// somebody: public access is refused.
func (s *server) setPolicies(c *call) error {
	if c.r.Header.Get("x-ms-blob-public-access") != "" {
		return publicAccess()
	}
	if _, err := storagewire.CheckLength(c.r, maxPoliciesXML); err != nil {
		return err
	}
	body, err := io.ReadAll(io.LimitReader(c.r.Body, maxPoliciesXML))
	if err != nil {
		return fault.Wrap(fault.InvalidArgument, err, "The request body could not be read.")
	}
	policies, err := parsePolicies(body)
	if err != nil {
		return err
	}
	conditions, err := storagewire.ParseConditions(c.r.Header, "")
	if err != nil {
		return err
	}
	p, err := s.lake.SetAccessPolicies(c.r.Context(), c.caller, c.path, policies, conditions)
	if fault.ReasonOf(err) == fault.InvalidArgument {
		return invalidXML(err)
	}
	if err != nil {
		return err
	}
	answerContainer(c.w, http.StatusOK, p)
	return nil
}

func publicAccess() error {
	return storagewire.Coded(fault.Conflict, "PublicAccessNotPermitted", "Public access is not permitted on this storage account.")
}

// policies answers Get Container ACL.
func (s *server) policies(c *call) error {
	conditions, err := storagewire.ParseConditions(c.r.Header, "")
	if err != nil {
		return err
	}
	p, policies, err := s.lake.AccessPolicies(c.r.Context(), c.caller, c.path, conditions)
	if err != nil {
		return err
	}
	doc := signedIdentifiers{}
	for _, p := range policies {
		id := signedIdentifier{ID: p.ID}
		if !p.Start.IsZero() || !p.Expiry.IsZero() || p.Permissions != "" {
			id.Policy = &accessPolicy{policyTime(p.Start), policyTime(p.Expiry), p.Permissions}
		}
		doc.Identifiers = append(doc.Identifiers, id)
	}
	c.w.Header().Set("ETag", p.ETag)
	c.w.Header().Set("Last-Modified", p.Modified.UTC().Format(http.TimeFormat))
	writeXML(c.w, http.StatusOK, doc)
	return nil
}

func policyTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.0000000Z")
}

// leaseContainer answers Lease Container.
func (s *server) leaseContainer(c *call) error {
	r, err := storagewire.ParseLease(c.r.Header)
	if err != nil {
		return err
	}
	p, err := s.lake.LeaseContainer(c.r.Context(), c.caller, c.path, r)
	if err != nil {
		return err
	}
	storagewire.AnswerLease(c.w, r.Action, lake.Properties{ETag: p.ETag, Modified: p.Modified, Lease: p.Lease})
	return nil
}
