package storagewire

import (
	"net/http"
	"strings"
)

// Dispatch serves an endpoint on which clients speak both dialects, as they do on
// path-style addresses: it gives each request to the adapter whose dialect it is
// in.
func Dispatch(blob, dfs http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if SpeaksDFS(r) {
			dfs.ServeHTTP(w, r)
		} else {
			blob.ServeHTTP(w, r)
		}
	})
}

// DispatchDFS serves the host of the DFS endpoint. Clients that do not recognise
// its name send it Blob's requests too, for metadata and downloads.
func DispatchDFS(blob, dfs http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q, err := ParseQuery(r)
		if err == nil && !SpeaksDFS(r) && (q.Has("comp") || q.Has("restype") || strings.Contains(r.Header.Get("Accept"), "application/xml")) {
			blob.ServeHTTP(w, r)
		} else {
			dfs.ServeHTTP(w, r)
		}
	})
}

// SpeaksDFS reports whether a request is one of ADLS Gen2 rather than of Blob.
// Their parameters do not meet: where Blob has comp and restype, DFS has action and
// resource. A request without any is told by what it accepts: DFS clients ask for
// JSON.
func SpeaksDFS(r *http.Request) bool {
	q, err := ParseQuery(r)
	switch {
	case err != nil:
		return false // both refuse it
	case q.Has("comp"), q.Has("restype"):
		return false
	case q.Has("action"), q.Has("resource"), q.Has("recursive"), q.Has("mode"), q.Has("paginated"):
		return true
	case r.Method == http.MethodPatch, r.Header.Get("X-HTTP-Method-Override") != "", r.Header.Get("x-ms-rename-source") != "":
		return true
	}
	return strings.Contains(r.Header.Get("Accept"), "application/json")
}
