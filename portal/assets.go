package portal

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"mime"
	"net/http"
	"path"
	"strings"
)

// The files that a browser loads once. htmx 4.0.1 and its extension for server-sent
// events are as published in the npm package htmx.org; its licence lies beside them.
//
//go:embed assets
var assetFiles embed.FS

// assets are served under a name that changes with their content, and so kept by
// browsers for good.
type assets struct {
	paths map[string]string // by name
	files map[string]asset  // by path
}

type asset struct {
	kind          string
	plain, zipped []byte
}

func loadAssets() assets {
	a := assets{map[string]string{}, map[string]asset{}}
	entries, err := assetFiles.ReadDir("assets")
	if err != nil {
		panic(err) // they are part of the program
	}
	for _, e := range entries {
		text, err := assetFiles.ReadFile("assets/" + e.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(text)
		at := "/assets/" + hex.EncodeToString(sum[:6]) + "/" + e.Name()
		kind := mime.TypeByExtension(path.Ext(e.Name()))
		if kind == "" {
			kind = "text/plain; charset=utf-8"
		}
		var zipped bytes.Buffer
		z, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
		z.Write(text)
		z.Close()
		a.paths[e.Name()], a.files[at] = at, asset{kind, text, zipped.Bytes()}
	}
	return a
}

// path returns where a file is.
func (a assets) path(name string) string { return a.paths[name] }

func (a assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := a.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	body := f.plain
	if acceptsGzip(r) {
		h.Set("Content-Encoding", "gzip")
		body = f.zipped
	}
	w.Write(body)
}

func acceptsGzip(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept-Encoding"), "gzip")
}
