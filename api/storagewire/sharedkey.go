package storagewire

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// stringsToSign returns the messages that a client may have signed for a request: the
// canonical headers stand in byte order or, as some SDKs have it, in a dictionary's.
// The order changes nothing of what is signed.
func stringsToSign(r *http.Request, account string, lite bool) []string {
	resource, ok := canonicalResource(r, account, lite)
	if !ok {
		return nil
	}
	length := ""
	if r.ContentLength > 0 {
		length = strconv.FormatInt(r.ContentLength, 10)
	}
	h := r.Header
	date := h.Get("Date")
	if h.Get("x-ms-date") != "" {
		date = ""
	}
	head := []string{
		r.Method, h.Get("Content-Encoding"), h.Get("Content-Language"), length, h.Get("Content-MD5"), h.Get("Content-Type"), date,
		h.Get("If-Modified-Since"), h.Get("If-Match"), h.Get("If-None-Match"), h.Get("If-Unmodified-Since"), h.Get("Range"),
	}
	if lite {
		head = []string{r.Method, h.Get("Content-MD5"), h.Get("Content-Type"), date}
	}
	top := strings.Join(head, "\n") + "\n"
	names := canonicalNames(h)
	bytewise := top + canonicalHeaders(h, names) + resource
	slices.SortFunc(names, dictionary)
	if other := top + canonicalHeaders(h, names) + resource; other != bytewise {
		return []string{bytewise, other}
	}
	return []string{bytewise}
}

func canonicalNames(h http.Header) []string {
	var names []string
	for name := range h {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-ms-") {
			names = append(names, lower)
		}
	}
	slices.Sort(names)
	return names
}

func canonicalHeaders(h http.Header, names []string) string {
	var b strings.Builder
	for _, name := range names {
		b.WriteString(name + ":" + strings.Join(h.Values(name), ",") + "\n")
	}
	return b.String()
}

// dictionary compares names of headers as a dictionary does: hyphens do not count, and
// an underscore comes before digits and letters.
func dictionary(a, b string) int {
	fold := func(s string) string { return strings.NewReplacer("-", "", "_", "\x01").Replace(s) }
	if c := strings.Compare(fold(a), fold(b)); c != 0 {
		return c
	}
	return cmp.Compare(len(a), len(b))
}

// canonicalResource names the account and the request's path as it was sent, and its
// query's parameters: for the lite scheme only comp.
func canonicalResource(r *http.Request, account string, lite bool) (string, bool) {
	path, query, _ := strings.Cut(r.RequestURI, "?")
	if !strings.HasPrefix(path, "/") { // not a request that came over the wire as such
		path, query = r.URL.EscapedPath(), r.URL.RawQuery
	}
	if path == "" {
		path = "/"
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", false
	}
	var b strings.Builder
	b.WriteString("/" + account + path)
	if lite {
		if comp := values.Get("comp"); comp != "" {
			b.WriteString("?comp=" + comp)
		}
		return b.String(), true
	}
	parameters := map[string][]string{}
	for name, v := range values {
		name = strings.ToLower(name)
		parameters[name] = append(parameters[name], v...)
	}
	names := make([]string, 0, len(parameters))
	for name := range parameters {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		slices.Sort(parameters[name])
		b.WriteString("\n" + name + ":" + strings.Join(parameters[name], ","))
	}
	return b.String(), true
}
