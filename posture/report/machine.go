package report

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/kluis-io/kluis/posture"
)

type object = map[string]any

// levels are SARIF's words for severities.
var levels = map[posture.Severity]string{posture.Critical: "error", posture.High: "error", posture.Medium: "warning", posture.Low: "note", posture.Info: "none"}

// securitySeverity is what code scanning sorts by, from 0 to 10.
var securitySeverity = map[posture.Severity]string{posture.Critical: "9.5", posture.High: "8.0", posture.Medium: "5.5", posture.Low: "3.0", posture.Info: "0.0"}

// sarif writes SARIF 2.1.0
// (https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html).
func sarif(w io.Writer, s *posture.Scan) error {
	index := map[string]int{}
	rules, results := []object{}, []object{}
	for _, f := range s.Findings {
		at, seen := index[f.Control]
		if !seen {
			at = len(rules)
			index[f.Control] = at
			c, _ := posture.ControlByID(f.Control)
			rules = append(rules, object{
				"id": c.ID, "name": c.ID, "shortDescription": object{"text": c.Title}, "fullDescription": object{"text": c.Why},
				"help": object{"text": c.Mend}, "defaultConfiguration": object{"level": levels[c.Severity]},
				"properties": object{"tags": append([]string{"security"}, c.Frameworks...), "security-severity": securitySeverity[c.Severity]},
			})
		}
		file, pointer, _ := strings.Cut(f.Evidence.Path, "#")
		result := object{
			"ruleId": f.Control, "ruleIndex": at, "level": levels[f.Severity], "kind": "fail",
			"message":             object{"text": f.Detail + ". " + f.Mend},
			"partialFingerprints": object{"kluisFinding/v1": f.ID},
			"properties":          object{"remediable": f.Remediable, "reversible": f.Reversible, "severity": f.Severity, "state": f.State},
		}
		logical := object{"fullyQualifiedName": f.Resource, "kind": "resource"}
		if pointer != "" {
			logical["decoratedName"] = pointer
		}
		location := object{"logicalLocations": []object{logical}}
		if file != "" {
			location["physicalLocation"] = object{"artifactLocation": object{"uri": uri(file)}}
		}
		result["locations"] = []object{location}
		if f.State == "unknown" {
			// SARIF allows no level but "none" for a result that is no failure.
			result["kind"], result["level"] = "open", "none"
		}
		if e := f.Excepted; e != nil {
			result["suppressions"] = []object{{"kind": "external", "status": "accepted", "justification": e.Owner + ": " + e.Reason}}
		}
		results = append(results, result)
	}
	return encode(w, object{
		"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0",
		"runs": []object{{
			"tool":        object{"driver": object{"name": "kluis", "informationUri": "https://github.com/kluis-io/kluis", "rules": rules}},
			"invocations": []object{{"executionSuccessful": true, "endTimeUtc": s.Time.Format("2006-01-02T15:04:05Z"), "toolExecutionNotifications": notifications(s)}},
			"results":     results,
		}},
	})
}

func notifications(s *posture.Scan) []object {
	out := []object{}
	for _, g := range s.Gaps {
		out = append(out, object{"level": "warning", "message": object{"text": "not read: " + g.What + ": " + g.Why}})
	}
	return out
}

// uri makes a file's name a URI reference; a URL stays what it is.
func uri(s string) string {
	if strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://") {
		return s
	}
	return (&url.URL{Path: s}).String()
}

func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

type testSuites struct {
	XMLName  xml.Name    `xml:"testsuites"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Suites   []testSuite `xml:"testsuite"`
}

type testSuite struct {
	Name      string     `xml:"name,attr"`
	Tests     int        `xml:"tests,attr"`
	Failures  int        `xml:"failures,attr"`
	Errors    int        `xml:"errors,attr"`
	Skipped   int        `xml:"skipped,attr"`
	Timestamp string     `xml:"timestamp,attr"`
	Cases     []testCase `xml:"testcase"`
}

type testCase struct {
	Name    string   `xml:"name,attr"`
	Class   string   `xml:"classname,attr"`
	Failure *outcome `xml:"failure,omitempty"`
	Error   *outcome `xml:"error,omitempty"`
	Skipped *outcome `xml:"skipped,omitempty"`
}

type outcome struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// junit writes a suite for each control. What nobody can tell is an error, what is
// excepted is skipped, and a compliant resource is a test that passed.
func junit(w io.Writer, s *posture.Scan) error {
	all := testSuites{Name: "kluis posture"}
	suites := map[string]*testSuite{}
	var order []string
	put := func(name string, c testCase) {
		suite := suites[name]
		if suite == nil {
			suite = &testSuite{Name: name, Timestamp: s.Time.Format("2006-01-02T15:04:05")}
			suites[name] = suite
			order = append(order, name)
		}
		suite.Tests++
		switch {
		case c.Failure != nil:
			suite.Failures++
		case c.Error != nil:
			suite.Errors++
		case c.Skipped != nil:
			suite.Skipped++
		}
		suite.Cases = append(suite.Cases, c)
	}
	for _, f := range s.Findings {
		c := testCase{Name: f.Resource, Class: f.Control}
		o := &outcome{Message: f.Detail, Type: string(f.Severity), Text: f.Why + "\n" + f.Mend}
		switch {
		case f.Excepted != nil:
			c.Skipped = &outcome{Message: f.Excepted.Owner + ": " + f.Excepted.Reason}
		case f.State == "unknown":
			c.Error = o
		default:
			c.Failure = o
		}
		put(f.Control, c)
	}
	for _, r := range s.Resources {
		if r.Verdict == posture.Compliant {
			put("CMK/"+r.Type, testCase{Name: r.ID, Class: "CMK/" + r.Type})
		}
	}
	for _, name := range order {
		suite := suites[name]
		all.Tests, all.Failures = all.Tests+suite.Tests, all.Failures+suite.Failures
		all.Errors += suite.Errors
		all.Suites = append(all.Suites, *suite)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// ocsf writes an array of Compliance Findings, class 2003, of OCSF 1.3
// (https://schema.ocsf.io/1.3.0/classes/compliance_finding).
func ocsf(w io.Writer, s *posture.Scan) error {
	severities := map[posture.Severity]int{posture.Info: 1, posture.Low: 2, posture.Medium: 3, posture.High: 4, posture.Critical: 5}
	out := []object{}
	for _, f := range s.Findings {
		c, _ := posture.ControlByID(f.Control)
		// Status of the finding: new, or suppressed. Of compliance: fail, or unknown.
		status, statusID := "New", 1
		if f.Excepted != nil {
			status, statusID = "Suppressed", 3
		}
		compliance, complianceID := "Fail", 3
		if f.State == "unknown" {
			compliance, complianceID = "Unknown", 0
		}
		standards := c.Frameworks
		if standards == nil {
			standards = []string{"kluis"}
		}
		out = append(out, object{
			"activity_id": 1, "activity_name": "Create", "category_uid": 2, "category_name": "Findings",
			"class_uid": 2003, "class_name": "Compliance Finding", "type_uid": 200301, "type_name": "Compliance Finding: Create",
			"severity_id": severities[f.Severity], "severity": strings.ToUpper(string(f.Severity[:1])) + string(f.Severity[1:]),
			"status_id": statusID, "status": status, "status_detail": f.Detail, "time": s.Time.UnixMilli(), "message": f.Detail,
			"metadata": object{
				"version": "1.3.0", "uid": f.ID, "event_code": f.Control,
				"product": object{"name": "kluis", "vendor_name": "kluis", "version": "posture"},
			},
			"finding_info": object{"uid": f.ID, "title": f.Title, "desc": f.Why, "created_time": s.Time.UnixMilli(), "types": []string{f.Control}},
			"compliance":   object{"control": f.Control, "standards": standards, "status_id": complianceID, "status": compliance, "status_detail": f.Detail},
			"remediation":  object{"desc": f.Mend},
			"resources":    []object{{"uid": f.Resource, "type": f.Type, "name": f.Resource[strings.LastIndexByte(f.Resource, '/')+1:]}},
			"unmapped":     object{"remediable": f.Remediable, "reversible": fmt.Sprint(f.Reversible), "evidence": f.Evidence},
		})
	}
	return encode(w, out)
}
