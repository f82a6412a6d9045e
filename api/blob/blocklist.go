package blob

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// Azure's most blocks of a blob, and a body that holds as many with ids of the
// greatest length (64 bytes, 88 in base64) and room for white space.
const (
	maxBlocks       = 50_000
	maxBlockListXML = 8 << 20
)

func invalidXML(err error) error {
	e := storagewire.Coded(fault.InvalidArgument, "InvalidXmlDocument", "XML specified is not syntactically valid, or not a block list.")
	e.Err.Err = err
	return e
}

// parseBlockList reads a block list's XML. It keeps the order, which makes the
// content.
func parseBlockList(body []byte) ([]lake.BlockRef, error) {
	d := xml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(body, []byte("\ufeff"))))
	var (
		blocks []lake.BlockRef
		depth  int
		done   bool
		source lake.BlockSource
		id     strings.Builder
	)
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && done {
			return blocks, nil
		}
		if err != nil {
			return nil, invalidXML(err)
		}
		switch t := token.(type) {
		case xml.Directive: // a document type has no business here
			return nil, invalidXML(nil)
		case xml.StartElement:
			switch {
			case done:
				return nil, invalidXML(nil)
			case depth == 0 && t.Name.Local == "BlockList":
			case depth == 1 && t.Name.Local == "Latest":
				source = lake.Latest
			case depth == 1 && t.Name.Local == "Committed":
				source = lake.Committed
			case depth == 1 && t.Name.Local == "Uncommitted":
				source = lake.Uncommitted
			default:
				return nil, invalidXML(nil)
			}
			if depth == 1 && len(blocks) == maxBlocks {
				return nil, storagewire.Coded(fault.InvalidArgument, "BlockListTooLong", "The block list may not contain more than 50,000 blocks.")
			}
			depth++
			id.Reset()
		case xml.CharData:
			switch {
			case depth == 2:
				id.Write(t)
			case len(bytes.TrimSpace(t)) > 0:
				return nil, invalidXML(nil)
			}
		case xml.EndElement:
			depth--
			switch depth {
			case 0:
				done = true
			case 1:
				blocks = append(blocks, lake.BlockRef{ID: strings.TrimSpace(id.String()), Source: source})
			}
		}
	}
}

type blockListBody struct {
	XMLName     xml.Name  `xml:"BlockList"`
	Committed   *blockSet `xml:"CommittedBlocks"`
	Uncommitted *blockSet `xml:"UncommittedBlocks"`
}

type blockSet struct {
	Blocks []block `xml:"Block"`
}

type block struct {
	Name string
	Size int64
}

func newBlockSet(blocks []lake.Block) *blockSet {
	s := &blockSet{Blocks: make([]block, len(blocks))}
	for i, b := range blocks {
		s.Blocks[i] = block{Name: b.ID, Size: b.Size}
	}
	return s
}

// blockList answers Get Block List.
func (s *server) blockList(c *call) error {
	kind := strings.ToLower(c.query["blocklisttype"])
	if kind == "" {
		kind = "committed"
	}
	if kind != "committed" && kind != "uncommitted" && kind != "all" {
		return storagewire.Coded(fault.InvalidArgument, "InvalidQueryParameterValue", "blocklisttype is committed, uncommitted or all.")
	}
	list, err := s.lake.Blocks(c.r.Context(), c.caller, c.path)
	if err != nil {
		return err
	}
	var body blockListBody
	if kind != "uncommitted" {
		body.Committed = newBlockSet(list.Committed)
	}
	if kind != "committed" {
		body.Uncommitted = newBlockSet(list.Uncommitted)
	}
	if list.Properties.ETag != "" {
		storagewire.SetVersion(c.w.Header(), list.Properties)
	}
	c.w.Header().Set("x-ms-blob-content-length", strconv.FormatInt(list.Properties.Size, 10))
	writeXML(c.w, http.StatusOK, body)
	return nil
}
