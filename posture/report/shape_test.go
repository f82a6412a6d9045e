package report_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/report"
)

// A shape is what a format's publication says of one of its objects: each property
// with its type, and those that have to be there. A property that is not named here
// is one that the publication does not know, or that the report has no use for. The
// publications' own files are not part of this repository.
//
// Types: "string", "int", "bool", "uri", "reference" (a URI reference), "time" (RFC
// 3339), "any"; "a|b" one of these words, or of these numbers; "=name" an object of
// that shape, "[]=name" a list of them; "[]string"; "{}" a map of strings.
type shape struct {
	need, may map[string]string
}

// sarifShapes follow the OASIS standard SARIF 2.1.0, errata 01, sections 3.13 to
// 3.58, and its schema sarif-schema-2.1.0.json, whose objects take no other
// properties ("additionalProperties": false).
var sarifShapes = map[string]shape{
	"log":           {need: map[string]string{"version": "2.1.0", "runs": "[]=run"}, may: map[string]string{"$schema": "uri"}},
	"run":           {need: map[string]string{"tool": "=tool"}, may: map[string]string{"invocations": "[]=invocation", "results": "[]=result"}},
	"tool":          {need: map[string]string{"driver": "=component"}},
	"component":     {need: map[string]string{"name": "string"}, may: map[string]string{"informationUri": "uri", "rules": "[]=rule", "version": "string"}},
	"rule":          {need: map[string]string{"id": "string"}, may: map[string]string{"name": "string", "shortDescription": "=text", "fullDescription": "=text", "help": "=text", "helpUri": "uri", "defaultConfiguration": "=configuration", "properties": "=bag"}},
	"text":          {need: map[string]string{"text": "string"}, may: map[string]string{"markdown": "string"}},
	"bag":           {may: map[string]string{"tags": "[]string", "security-severity": "string", "remediable": "string", "reversible": "bool", "severity": "string", "state": "string"}},
	"invocation":    {need: map[string]string{"executionSuccessful": "bool"}, may: map[string]string{"endTimeUtc": "time", "toolExecutionNotifications": "[]=notification"}},
	"configuration": {may: map[string]string{"level": "none|note|warning|error"}},
	"notification":  {need: map[string]string{"message": "=text"}, may: map[string]string{"level": "none|note|warning|error"}},
	"result": {need: map[string]string{"message": "=text"}, may: map[string]string{
		"ruleId": "string", "ruleIndex": "int", "level": "none|note|warning|error", "kind": "notApplicable|pass|fail|review|open|informational",
		"locations": "[]=location", "partialFingerprints": "{}", "properties": "=bag", "suppressions": "[]=suppression",
	}},
	"location":    {may: map[string]string{"physicalLocation": "=physical", "logicalLocations": "[]=logical"}},
	"physical":    {need: map[string]string{"artifactLocation": "=artifact"}},
	"artifact":    {may: map[string]string{"uri": "reference"}},
	"logical":     {may: map[string]string{"fullyQualifiedName": "string", "decoratedName": "string", "kind": "string"}},
	"suppression": {need: map[string]string{"kind": "inSource|external"}, may: map[string]string{"status": "accepted|underReview|rejected", "justification": "string"}},
}

// ocsfShapes follow schema.ocsf.io/1.3.0: class compliance_finding and its objects.
var ocsfShapes = map[string]shape{
	"event": {
		need: map[string]string{
			"activity_id": "1|2|3", "category_uid": "2", "class_uid": "2003", "type_uid": "200301|200302|200303", "severity_id": "0|1|2|3|4|5|6|99", "time": "int",
			"metadata": "=metadata", "finding_info": "=info", "compliance": "=compliance",
		},
		may: map[string]string{
			"activity_name": "string", "category_name": "string", "class_name": "string", "type_name": "string", "severity": "string", "status": "string", "status_id": "0|1|2|3|4|99",
			"status_detail": "string", "message": "string", "remediation": "=remediation", "resources": "[]=resource", "unmapped": "any",
		},
	},
	"metadata":    {need: map[string]string{"version": "1.3.0", "product": "=product"}, may: map[string]string{"uid": "string", "event_code": "string"}},
	"product":     {need: map[string]string{"vendor_name": "string"}, may: map[string]string{"name": "string", "version": "string", "feature": "any"}},
	"info":        {need: map[string]string{"uid": "string", "title": "string"}, may: map[string]string{"desc": "string", "created_time": "int", "types": "[]string"}},
	"compliance":  {need: map[string]string{"standards": "[]string"}, may: map[string]string{"control": "string", "requirements": "[]string", "status": "string", "status_id": "0|1|2|3|99", "status_detail": "string"}},
	"remediation": {need: map[string]string{"desc": "string"}},
	"resource":    {need: map[string]string{"uid": "string"}, may: map[string]string{"name": "string", "type": "string"}},
}

// match returns what is wrong with a value.
func match(shapes map[string]shape, want string, v any) error {
	if name, ok := strings.CutPrefix(want, "[]="); ok {
		return each(v, func(v any) error { return match(shapes, "="+name, v) })
	}
	if name, ok := strings.CutPrefix(want, "="); ok {
		return shapes[name].match(shapes, v)
	}
	text, isText := v.(string)
	number, isNumber := v.(float64)
	good := false
	switch want {
	case "any":
		good = true
	case "string":
		good = isText
	case "int":
		good = isNumber && number == float64(int64(number))
	case "bool":
		_, good = v.(bool)
	case "[]string":
		if all, ok := v.([]any); ok {
			texts := map[any]bool{}
			for _, one := range all {
				if texts[one] {
					return fmt.Errorf("%v is there twice", one)
				}
				texts[one] = true
			}
		}
		return each(v, func(v any) error { return match(shapes, "string", v) })
	case "{}":
		all, _ := v.(map[string]any)
		return each(slices.Collect(maps.Values(all)), func(v any) error { return match(shapes, "string", v) })
	case "uri", "reference":
		u, err := url.Parse(text)
		good = isText && err == nil && (want == "reference" || u.IsAbs())
	case "time":
		_, err := time.Parse(time.RFC3339, text)
		good = err == nil
	default:
		good = slices.Contains(strings.Split(want, "|"), fmt.Sprint(v))
	}
	if !good {
		return fmt.Errorf("%#v is no %s", v, want)
	}
	return nil
}

func each(v any, fn func(any) error) error {
	all, ok := v.([]any)
	if !ok && v != nil {
		return fmt.Errorf("%#v is no list", v)
	}
	var errs []error
	for i, one := range all {
		if err := fn(one); err != nil {
			errs = append(errs, fmt.Errorf("%d: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

func (s shape) match(shapes map[string]shape, v any) error {
	object, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%#v is no object", v)
	}
	var errs []error
	for name := range s.need {
		if _, there := object[name]; !there {
			errs = append(errs, fmt.Errorf("no %s", name))
		}
	}
	for name, v := range object {
		want := s.need[name] + s.may[name]
		if want == "" {
			errs = append(errs, fmt.Errorf("%s is not known", name))
		} else if err := match(shapes, want, v); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// shaped are scans of every kind: with findings, gaps and exceptions, and empty.
func shaped(t *testing.T) []*posture.Scan {
	return []*posture.Scan{scan(t), estate(t), {Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}}
}

func TestPublishedShapes(t *testing.T) {
	for i, s := range shaped(t) {
		for format, shapes := range map[string]map[string]shape{"sarif": sarifShapes, "ocsf": ocsfShapes} {
			var b strings.Builder
			if err := report.Write(&b, format, s); err != nil {
				t.Fatal(err)
			}
			var v any
			if err := json.Unmarshal([]byte(b.String()), &v); err != nil {
				t.Fatal(err)
			}
			want := "=log"
			if format == "ocsf" {
				want = "[]=event"
			}
			if err := match(shapes, want, v); err != nil {
				t.Errorf("%s of scan %d: %.2000v", format, i, err)
			}
		}
	}
}

// junitShape is the schema that Jenkins publishes for JUnit's XML
// (github.com/jenkinsci/xunit-plugin, junit-10.xsd): elements with the attributes
// that they have to have, those that they may have, and their children.
var junitShape = map[string]struct{ need, may, children string }{
	"testsuites": {"", "name time tests failures disabled errors", "testsuite"},
	"testsuite":  {"name tests", "failures errors time disabled skipped timestamp hostname id package", "properties testcase system-out system-err"},
	"testcase":   {"name", "assertions time classname status", "skipped error failure system-out system-err"},
	"failure":    {"", "type message", ""},
	"error":      {"", "type message", ""},
	"skipped":    {"", "message", ""},
}

func TestJUnitShape(t *testing.T) {
	timestamp := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$`) // as Ant's schema wants it
	for _, s := range shaped(t) {
		var b strings.Builder
		if err := report.Write(&b, "junit", s); err != nil {
			t.Fatal(err)
		}
		d := xml.NewDecoder(strings.NewReader(b.String()))
		var path []string
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			switch e := token.(type) {
			case xml.StartElement:
				is, known := junitShape[e.Name.Local]
				if !known || len(path) == 0 && e.Name.Local != "testsuites" || len(path) > 0 && !slices.Contains(strings.Fields(junitShape[path[len(path)-1]].children), e.Name.Local) {
					t.Fatalf("%s within %v", e.Name.Local, path)
				}
				left := strings.Fields(is.need)
				for _, a := range e.Attr {
					left = slices.DeleteFunc(left, func(n string) bool { return n == a.Name.Local })
					if !slices.Contains(strings.Fields(is.need+" "+is.may), a.Name.Local) {
						t.Fatalf("%s has no attribute %s", e.Name.Local, a.Name.Local)
					}
					if a.Name.Local == "timestamp" && !timestamp.MatchString(a.Value) {
						t.Errorf("timestamp %s", a.Value)
					}
				}
				if len(left) > 0 {
					t.Fatalf("%s lacks %v", e.Name.Local, left)
				}
				path = append(path, e.Name.Local)
			case xml.EndElement:
				path = path[:len(path)-1]
			}
		}
	}
}
