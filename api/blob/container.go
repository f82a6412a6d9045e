package blob

import (
	"net/http"

	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/lake"
)

// newContainer answers Create Container in a storage account.
func (s *server) newContainer(c *call) error {
	metadata, err := storagewire.ParseMetadata(c.r.Header)
	if err != nil {
		return err
	}
	if c.r.Header.Get("x-ms-blob-public-access") != "" {
		return publicAccess()
	}
	p, err := s.lake.CreateContainer(c.r.Context(), c.caller, c.path, metadata)
	if err != nil {
		return err
	}
	answerContainer(c.w, http.StatusCreated, p)
	return nil
}

// setContainerMetadata answers Set Container Metadata.
func (s *server) setContainerMetadata(c *call) error {
	metadata, err := storagewire.ParseMetadata(c.r.Header)
	if err != nil {
		return err
	}
	conditions, err := storagewire.ParseConditions(c.r.Header, "")
	if err != nil {
		return err
	}
	p, err := s.lake.SetContainerMetadata(c.r.Context(), c.caller, c.path, metadata, conditions)
	if err != nil {
		return err
	}
	answerContainer(c.w, http.StatusOK, p)
	return nil
}

func answerContainer(w http.ResponseWriter, status int, p lake.ContainerProperties) {
	h := w.Header()
	h.Set("ETag", p.ETag)
	h.Set("Last-Modified", p.Modified.UTC().Format(http.TimeFormat))
	h.Set("Content-Length", "0")
	w.WriteHeader(status)
}

// deleteContainer answers Delete Container.
func (s *server) deleteContainer(c *call) error {
	conditions, err := storagewire.ParseConditions(c.r.Header, "")
	if err != nil {
		return err
	}
	if err := s.lake.DeleteContainer(c.r.Context(), c.caller, c.path, conditions); err != nil {
		return err
	}
	c.w.Header().Set("Content-Length", "0")
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}
