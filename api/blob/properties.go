package blob

import (
	"encoding/xml"
	"io"
	"net/http"
	"strings"

	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/fault"
)

// maxPropertiesXML bounds the body that sets a service's properties, in bytes.
const maxPropertiesXML = 16 << 10

type (
	retention struct {
		Enabled bool
		Days    int `xml:",omitempty"`
	}
	logging struct {
		Version             string
		Delete, Read, Write bool
		RetentionPolicy     retention
	}
	metrics struct {
		Version         string
		Enabled         bool
		IncludeAPIs     *bool `xml:",omitempty"`
		RetentionPolicy retention
	}
	cors struct {
		Rules []corsRule `xml:"CorsRule"`
	}
	corsRule struct {
		AllowedOrigins  string
		AllowedMethods  string
		AllowedHeaders  string
		ExposedHeaders  string
		MaxAgeInSeconds int
	}
	staticWebsite struct{ Enabled bool }

	// serviceProperties has nil for what a request does not name.
	serviceProperties struct {
		XMLName               xml.Name `xml:"StorageServiceProperties"`
		Logging               *logging
		HourMetrics           *metrics
		MinuteMetrics         *metrics
		Cors                  *cors
		DefaultServiceVersion *string
		DeleteRetentionPolicy *retention
		StaticWebsite         *staticWebsite
	}
)

// serviceProperties answers Get Blob Service Properties. In a workspace all is off.
func (s *server) serviceProperties(c *call) error {
	var b account.BlobService
	var err error
	if name := s.config.Storage(); name != "" && s.config.Services != nil {
		b, err = s.config.Services.BlobService(c.r.Context(), c.caller, name)
	} else {
		_, err = s.lake.ListContainers(c.r.Context(), c.caller, name, "")
	}
	if err != nil {
		return err
	}
	writeXML(c.w, http.StatusOK, formatProperties(b))
	return nil
}

func formatProperties(b account.BlobService) serviceProperties {
	out := serviceProperties{
		Logging: &logging{
			Version: version(b.Logging.Version), Delete: b.Logging.Delete, Read: b.Logging.Read, Write: b.Logging.Write,
			RetentionPolicy: retention(b.Logging.Retention),
		},
		HourMetrics: formatMetrics(b.HourMetrics), MinuteMetrics: formatMetrics(b.MinuteMetrics),
		Cors: &cors{}, DeleteRetentionPolicy: &retention{}, StaticWebsite: &staticWebsite{},
	}
	for _, r := range b.CORS {
		out.Cors.Rules = append(out.Cors.Rules, corsRule{
			strings.Join(r.Origins, ","), strings.Join(r.Methods, ","), strings.Join(r.Headers, ","), strings.Join(r.Exposed, ","), r.MaxAge,
		})
	}
	if b.Version != "" {
		out.DefaultServiceVersion = &b.Version
	}
	return out
}

func formatMetrics(m account.Metrics) *metrics {
	out := &metrics{Version: version(m.Version), Enabled: m.Enabled, RetentionPolicy: retention(m.Retention)}
	if m.Enabled {
		out.IncludeAPIs = &m.APIs
	}
	return out
}

func version(v string) string {
	if v == "" {
		return "1.0"
	}
	return v
}

// setServiceProperties answers Set Blob Service Properties.
func (s *server) setServiceProperties(c *call) error {
	if _, err := storagewire.CheckLength(c.r, maxPropertiesXML); err != nil {
		return err
	}
	body, err := io.ReadAll(io.LimitReader(c.r.Body, maxPropertiesXML))
	if err != nil {
		return fault.Wrap(fault.InvalidArgument, err, "The request body could not be read.")
	}
	change, err := parseServiceProperties(body)
	if err != nil {
		return err
	}
	err = s.config.Services.SetBlobService(c.r.Context(), c.caller, s.config.Storage(), change)
	switch fault.ReasonOf(err) {
	case "":
		c.w.Header().Set("Content-Length", "0")
		c.w.WriteHeader(http.StatusAccepted)
		return nil
	case fault.InvalidArgument:
		return &storagewire.CodedError{Code: "InvalidXmlDocument", Err: fault.As(err)}
	case fault.Conflict:
		return &storagewire.CodedError{Code: "FeatureNotSupportedForAccount", Err: fault.As(err)}
	}
	return err
}

// parseServiceProperties reads the body of Set Blob Service Properties. What it does
// not name stays as it is.
func parseServiceProperties(body []byte) (change account.BlobServiceChange, err error) {
	var doc serviceProperties
	if err := xml.Unmarshal(body, &doc); err != nil {
		e := storagewire.Coded(fault.InvalidArgument, "InvalidXmlDocument", "XML specified is not syntactically valid, or not a service's properties.")
		e.Err.Err = err
		return change, e
	}
	if l := doc.Logging; l != nil {
		change.Logging = &account.Logging{Version: l.Version, Delete: l.Delete, Read: l.Read, Write: l.Write, Retention: account.Retention(l.RetentionPolicy)}
	}
	change.HourMetrics, change.MinuteMetrics = parseMetrics(doc.HourMetrics), parseMetrics(doc.MinuteMetrics)
	if doc.Cors != nil {
		change.CORS = new([]account.CORSRule)
		for _, r := range doc.Cors.Rules {
			*change.CORS = append(*change.CORS, account.CORSRule{
				Origins: storagewire.SplitList(r.AllowedOrigins), Methods: storagewire.SplitList(r.AllowedMethods),
				Headers: storagewire.SplitList(r.AllowedHeaders), Exposed: storagewire.SplitList(r.ExposedHeaders), MaxAge: r.MaxAgeInSeconds,
			})
		}
	}
	change.Version = doc.DefaultServiceVersion
	change.DeleteRetention = (*account.Retention)(doc.DeleteRetentionPolicy)
	if doc.StaticWebsite != nil {
		change.StaticWebsite = &doc.StaticWebsite.Enabled
	}
	return change, nil
}

func parseMetrics(m *metrics) *account.Metrics {
	if m == nil {
		return nil
	}
	return &account.Metrics{
		Version: m.Version, Enabled: m.Enabled, APIs: m.IncludeAPIs != nil && *m.IncludeAPIs, Retention: account.Retention(m.RetentionPolicy),
	}
}

// serviceStats answers Get Blob Service Stats as Azure does where there is no secondary
// region to have any of: it asks for something that is not there.
func (s *server) serviceStats(c *call) error {
	if _, err := s.config.Services.BlobService(c.r.Context(), c.caller, s.config.Storage()); err != nil {
		return err
	}
	return storagewire.Coded(fault.InvalidArgument, "InvalidQueryParameterValue",
		"Value for one of the query parameters specified in the request URI is invalid: comp=stats is answered by a secondary location, and the account has none.")
}
