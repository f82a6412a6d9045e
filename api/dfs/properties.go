package dfs

import (
	"encoding/base64"
	"maps"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// parseProperties reads user metadata as this dialect writes it:
// "name=base64,name=base64".
func parseProperties(s string) (map[string]string, error) {
	m := map[string]string{}
	if strings.TrimSpace(s) == "" {
		return m, nil
	}
	for pair := range strings.SplitSeq(s, ",") {
		name, encoded, ok := strings.Cut(strings.TrimSpace(pair), "=")
		value, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil {
			return nil, storagewire.Coded(fault.InvalidArgument, "InvalidPropertyName", "x-ms-properties is not a list of names with base64 values.")
		}
		if _, twice := m[name]; twice {
			return nil, storagewire.Coded(fault.InvalidArgument, "InvalidPropertyName", "x-ms-properties names a property twice.")
		}
		m[name] = string(value)
	}
	return m, storagewire.CheckMetadata(m)
}

// formatProperties is the reverse. A folder carries the mark by which Blob clients
// know it, as in Azure.
func formatProperties(p lake.Properties) string {
	m := p.Metadata
	if p.Kind == lake.Folder {
		m = maps.Clone(m)
		if m == nil {
			m = map[string]string{}
		}
		m["hdi_isfolder"] = "true"
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(name + "=" + base64.StdEncoding.EncodeToString([]byte(m[name])))
	}
	return b.String()
}
