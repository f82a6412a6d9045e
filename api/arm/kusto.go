package arm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kluis-io/kluis/fault"
)

// A question is a query to Resource Graph, as far as it is understood here: the rows of
// some types, some of their columns, in the order of one. Azure's language is Kusto;
// this is the closed part of it that inventories are asked with:
//
//	Resources
//	| where type in~ ('TYPE', …)      also in, =~ and ==
//	| project COLUMN, …
//	| order by COLUMN [asc|desc]      also sort by
//	| limit N                         also take N
//
// each at most once but for where, in any order that gives the same answer.
type question struct {
	types   []string // in lower case; nil: all
	columns []string // nil: all
	order   string   // "" for the id
	desc    bool
	limit   int // 0: none
}

// graphColumns are the columns of the table Resources that there are here.
var graphColumns = []string{
	"id", "name", "type", "tenantId", "kind", "location", "resourceGroup", "subscriptionId", "sku", "properties", "tags", "identity",
}

// graphOrders are the columns by which rows can be put in order.
var graphOrders = []string{"id", "name", "type", "location"}

func notUnderstood(what string) error {
	return fault.New(fault.InvalidArgument, "The query is not understood at "+strconv.Quote(clipQuery(what))+".").
		WithMend("Resource Graph answers here: Resources | where type in~ ('TYPE', …) | project COLUMN, … | order by COLUMN asc | limit N.")
}

func clipQuery(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

// parseQuestion reads a query.
func parseQuestion(text string) (question, error) {
	var q question
	words, err := kustoWords(text)
	if err != nil {
		return q, err
	}
	stages := [][]string{{}}
	for _, w := range words {
		if w == "|" {
			stages = append(stages, nil)
			continue
		}
		last := len(stages) - 1
		stages[last] = append(stages[last], w)
	}
	if len(stages[0]) != 1 || !strings.EqualFold(stages[0][0], "resources") {
		return q, notUnderstood(strings.Join(stages[0], " "))
	}
	seen := map[string]bool{}
	for _, s := range stages[1:] {
		if len(s) < 2 || seen["limit"] || !q.stage(s) {
			return q, notUnderstood(strings.Join(s, " "))
		}
		name := map[string]string{"take": "limit", "sort": "order"}[strings.ToLower(s[0])]
		if name == "" {
			name = strings.ToLower(s[0])
		}
		if seen[name] && name != "where" || seen["project"] && name == "where" {
			return q, notUnderstood(strings.Join(s, " "))
		}
		seen[name] = true
	}
	return q, nil
}

// stage reads one operator with its arguments, and reports whether it could.
func (q *question) stage(s []string) bool {
	switch strings.ToLower(s[0]) {
	case "where":
		return q.where(s[1:])
	case "project":
		var columns []string
		for i, w := range s[1:] {
			if i%2 == 1 && w == "," {
				continue
			}
			at := slices.IndexFunc(graphColumns, func(c string) bool { return strings.EqualFold(c, w) })
			if i%2 == 1 || at < 0 || slices.Contains(columns, graphColumns[at]) {
				return false
			}
			columns = append(columns, graphColumns[at])
		}
		q.columns = columns
		return len(s)%2 == 0
	case "order", "sort":
		if len(s) < 3 || len(s) > 4 || !strings.EqualFold(s[1], "by") {
			return false
		}
		at := slices.IndexFunc(graphOrders, func(c string) bool { return strings.EqualFold(c, s[2]) })
		if at < 0 {
			return false
		}
		q.order, q.desc = graphOrders[at], len(s) == 3 || strings.EqualFold(s[3], "desc")
		return len(s) == 3 || q.desc || strings.EqualFold(s[3], "asc")
	case "limit", "take":
		n, err := strconv.Atoi(s[1])
		q.limit = n
		return err == nil && n > 0 && len(s) == 2
	}
	return false
}

// where reads a condition on the type. Several hold together.
func (q *question) where(s []string) bool {
	if len(s) < 3 || !strings.EqualFold(s[0], "type") {
		return false
	}
	var types []string
	text := func(w string) (ok bool) {
		if len(w) >= 2 && w[0] == '\'' {
			types, ok = append(types, strings.ToLower(w[1:len(w)-1])), true
		}
		return ok
	}
	switch op := strings.ToLower(s[1]); {
	case op == "=~" || op == "==":
		if len(s) != 3 || !text(s[2]) {
			return false
		}
	case op == "in~" || op == "in":
		if len(s) < 5 || s[2] != "(" || s[len(s)-1] != ")" || len(s)%2 == 0 {
			return false
		}
		for i, w := range s[3 : len(s)-1] {
			if i%2 == 0 && !text(w) || i%2 == 1 && w != "," {
				return false
			}
		}
	default:
		return false
	}
	if q.types == nil {
		q.types = types
		return true
	}
	q.types = slices.DeleteFunc(q.types, func(t string) bool { return !slices.Contains(types, t) })
	return true
}

// kustoWords takes a query apart: words, numbers, texts in their opening single quote
// and a closing one, and signs.
func kustoWords(text string) (words []string, err error) {
	if len(text) > 1<<16 {
		return nil, fault.New(fault.InvalidArgument, fmt.Sprintf("A query has at most %d characters.", 1<<16))
	}
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			i++
		case c == '\'' || c == '"':
			end := strings.IndexByte(text[i+1:], c)
			if end < 0 || strings.ContainsAny(text[i+1:i+1+end], "\\\n") {
				return nil, notUnderstood(text[i:])
			}
			words = append(words, "'"+text[i+1:i+1+end]+"'")
			i += end + 2
		case strings.IndexByte("|,()", c) >= 0:
			words = append(words, text[i:i+1])
			i++
		case c == '=':
			if i+1 == len(text) || text[i+1] != '=' && text[i+1] != '~' {
				return nil, notUnderstood(text[i:])
			}
			words = append(words, text[i:i+2])
			i += 2
		case 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9':
			n := i
			for n < len(text) && ('a' <= text[n]|0x20 && text[n]|0x20 <= 'z' || '0' <= text[n] && text[n] <= '9') {
				n++
			}
			if n < len(text) && text[n] == '~' { // in~
				n++
			}
			words = append(words, text[i:n])
			i = n
		default:
			return nil, notUnderstood(text[i:])
		}
	}
	return words, nil
}
