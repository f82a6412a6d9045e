package main

import (
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"runtime/debug"
	"strings"
	"time"
)

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// modules are what a binary was linked from, and the standard library of its toolchain.
func modules(info *buildinfo.BuildInfo) []debug.Module {
	all := []debug.Module{{Path: "stdlib", Version: strings.TrimPrefix(info.GoVersion, "go")}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		all = append(all, *m)
	}
	return all
}

// purl names a module as package URLs do.
func purl(m debug.Module) string { return "pkg:golang/" + m.Path + "@" + m.Version }

// cycloneDX returns the bill in CycloneDX 1.5.
func cycloneDX(name, version string, info *buildinfo.BuildInfo, at time.Time) any {
	type property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	type component struct {
		Type       string     `json:"type"`
		Ref        string     `json:"bom-ref"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		PURL       string     `json:"purl,omitempty"`
		Properties []property `json:"properties,omitempty"`
	}
	var parts []component
	for _, m := range modules(info) {
		c := component{Type: "library", Ref: purl(m), Name: m.Path, Version: m.Version, PURL: purl(m)}
		if m.Sum != "" { // Go's own sum of the module's files, which is no hash of one file
			c.Properties = []property{{"golang:h1", m.Sum}}
		}
		parts = append(parts, c)
	}
	return map[string]any{
		"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
		"metadata": map[string]any{
			"timestamp": at.Format(time.RFC3339),
			"component": component{Type: "application", Ref: name, Name: name, Version: version},
		},
		"components": parts,
	}
}

// spdx returns the bill in SPDX 2.3.
func spdx(name, version string, info *buildinfo.BuildInfo, at time.Time) any {
	type reference struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	type checksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	type pkg struct {
		ID        string      `json:"SPDXID"`
		Name      string      `json:"name"`
		Version   string      `json:"versionInfo"`
		Download  string      `json:"downloadLocation"`
		Analysed  bool        `json:"filesAnalyzed"`
		Checksums []checksum  `json:"checksums,omitempty"`
		Refs      []reference `json:"externalRefs,omitempty"`
	}
	type relation struct {
		From string `json:"spdxElementId"`
		Kind string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	}
	id := func(s string) string {
		return "SPDXRef-" + strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' {
				return r
			}
			return '-'
		}, s)
	}
	packages := []pkg{{ID: id(name), Name: name, Version: version, Download: "NOASSERTION"}}
	relations := []relation{{"SPDXRef-DOCUMENT", "DESCRIBES", id(name)}}
	for _, m := range modules(info) {
		p := pkg{ID: id(m.Path + "-" + m.Version), Name: m.Path, Version: m.Version, Download: "NOASSERTION",
			Refs: []reference{{"PACKAGE-MANAGER", "purl", purl(m)}}}
		if sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:")); err == nil && len(sum) == 32 {
			p.Checksums = []checksum{{"SHA256", hex.EncodeToString(sum)}}
		}
		packages = append(packages, p)
		relations = append(relations, relation{id(name), "DEPENDS_ON", p.ID})
	}
	return map[string]any{
		"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": name + "-" + version,
		"documentNamespace": "https://kluis.io/spdx/" + name + "-" + version,
		"creationInfo":      map[string]any{"created": at.Format(time.RFC3339), "creators": []string{"Tool: kluis-release"}},
		"packages":          packages, "relationships": relations,
	}
}
