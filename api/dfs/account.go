package dfs

import (
	"net/http"

	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/lake"
)

// createFilesystem answers Filesystem - Create in a storage account.
func (s *server) createFilesystem(c *call) error {
	properties, err := parseProperties(c.r.Header.Get("x-ms-properties"))
	if err != nil {
		return err
	}
	p, err := s.lake.CreateContainer(c.r.Context(), c.caller, c.path, properties)
	if err != nil {
		return err
	}
	c.w.Header().Set("x-ms-namespace-enabled", "true")
	answerFilesystem(c.w, http.StatusCreated, p)
	return nil
}

// changeFilesystem answers Filesystem - Set Properties, and Delete.
func (s *server) changeFilesystem(c *call) error {
	conditions, err := storagewire.ParseConditions(c.r.Header, "")
	if err != nil {
		return err
	}
	if c.method == http.MethodDelete {
		if err := s.lake.DeleteContainer(c.r.Context(), c.caller, c.path, conditions); err != nil {
			return err
		}
		c.w.Header().Set("Content-Length", "0")
		c.w.WriteHeader(http.StatusAccepted)
		return nil
	}
	properties, err := parseProperties(c.r.Header.Get("x-ms-properties"))
	if err != nil {
		return err
	}
	p, err := s.lake.SetContainerMetadata(c.r.Context(), c.caller, c.path, properties, conditions)
	if err != nil {
		return err
	}
	answerFilesystem(c.w, http.StatusOK, p)
	return nil
}

func answerFilesystem(w http.ResponseWriter, status int, p lake.ContainerProperties) {
	h := w.Header()
	h.Set("ETag", p.ETag)
	h.Set("Last-Modified", p.Modified.UTC().Format(http.TimeFormat))
	h.Set("Content-Length", "0")
	w.WriteHeader(status)
}
