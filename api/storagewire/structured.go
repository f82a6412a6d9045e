package storagewire

import (
	"encoding/binary"
	"hash/crc64"
	"io"
	"net/http"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// Structured bodies, "XSM/1.0", carry a body in segments with checksums of their
// own. All numbers are little-endian:
//
//	message  version (1 byte, 1), length of the message (8), flags (2), segments (2)
//	segment  number from 1 (2), length of its data (8), data, CRC-64 of the data (8)
//	         ... and after the last segment the CRC-64 of all data (8)
//
// There is no page of Microsoft's about them; this follows the Azure SDK for Go
// (azblob v1.8.3, internal/shared/structured_message.go).
const (
	structuredValue   = "XSM/1.0; properties=crc64"
	structuredHeader  = "x-ms-structured-body"
	structuredLength  = "x-ms-structured-content-length"
	messageHeadSize   = 13
	segmentHeadSize   = 10
	checksumSize      = 8
	structuredSegment = 4 << 20 // of those that we send
	flagCRC64         = 1
	maxSegments       = 1<<16 - 1
)

// A Body is what a request brings to be stored.
type Body struct {
	io.Reader
	Size   int64
	Hashes lake.Hashes
}

// ParseBody returns the request's body, with its length, which must be known
// beforehand and be at most most bytes, and what the client says of its hashes. A
// structured body is taken out of its frames, and its checksums are verified while
// it is read: the frames are never data.
func ParseBody(w http.ResponseWriter, r *http.Request, most int64) (b Body, err error) {
	framing := r.Header.Get(structuredHeader)
	if framing == "" {
		if b.Size, err = CheckLength(r, most); err != nil {
			return b, err
		}
		b.Reader = r.Body
		b.Hashes, err = ParseHashes(r.Header)
		return b, err
	}
	if err := checkStructured(framing); err != nil {
		return b, err
	}
	encoded, err := CheckLength(r, most+messageHeadSize+checksumSize+maxSegments*(segmentHeadSize+checksumSize))
	if err != nil {
		return b, err
	}
	for _, name := range []string{"Content-MD5", "x-ms-content-crc64"} {
		if r.Header.Get(name) != "" {
			return b, Coded(fault.InvalidArgument, "InvalidHeaderValue", "A structured body carries its own checksums.").about(name)
		}
	}
	if b.Size, err = parsePosition(r.Header.Get(structuredLength)); err != nil {
		return b, invalidHeader(structuredLength)
	}
	if b.Size > most {
		return b, fault.New(fault.PayloadTooLarge, "")
	}
	w.Header().Set(structuredHeader, structuredValue)
	b.Reader = newStructuredReader(r.Body, encoded)
	return b, nil
}

func checkStructured(value string) error {
	if !strings.EqualFold(strings.ReplaceAll(value, " ", ""), strings.ReplaceAll(structuredValue, " ", "")) {
		return Coded(fault.InvalidArgument, "UnsupportedHeader", "The only structured body is "+structuredValue+".").about(structuredHeader)
	}
	return nil
}

func badStructure(detail string) error {
	return Coded(fault.InvalidArgument, "InvalidInput", "The structured body is malformed: "+detail)
}

func badChecksum() error {
	return Coded(fault.HashMismatch, "Crc64Mismatch", "The CRC64 in the structured body is not that of its data.")
}

// A structuredReader takes the data out of a structured body.
type structuredReader struct {
	src      io.Reader
	left     int64 // bytes of the message that are still to come
	started  bool
	segments uint16
	segment  uint16 // of which the data is being read; 0 before the first
	data     int64  // that is still to come in it
	own, all uint64 // checksums of the segment and of the whole so far
	err      error
}

func newStructuredReader(src io.Reader, size int64) *structuredReader {
	return &structuredReader{src: src, left: size}
}

func (s *structuredReader) Read(p []byte) (int, error) {
	for s.err == nil {
		if s.data > 0 {
			if len(p) == 0 {
				return 0, nil
			}
			n, err := s.src.Read(p[:min(int64(len(p)), s.data)])
			s.own = crc64.Update(s.own, CRC64, p[:n])
			s.all = crc64.Update(s.all, CRC64, p[:n])
			s.data -= int64(n)
			s.left -= int64(n)
			if err != nil && (err != io.EOF || s.data > 0) {
				s.err = ended(err)
			}
			if n > 0 {
				return n, nil
			}
			continue
		}
		s.err = s.frame()
	}
	return 0, s.err
}

func ended(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// take reads the next bytes of a frame.
func (s *structuredReader) take(b []byte) error {
	if s.left < int64(len(b)) {
		return badStructure("it is shorter than its frames say.")
	}
	if _, err := io.ReadFull(s.src, b); err != nil {
		return ended(err)
	}
	s.left -= int64(len(b))
	return nil
}

// frame reads what stands between two segments' data. It returns io.EOF at the
// message's end, with everything verified.
func (s *structuredReader) frame() error {
	var b [messageHeadSize]byte
	if !s.started {
		length := s.left
		if err := s.take(b[:]); err != nil {
			return err
		}
		switch {
		case b[0] != 1:
			return badStructure("its version is unknown.")
		case binary.LittleEndian.Uint64(b[1:]) != uint64(length):
			return badStructure("it says another length than the request.")
		case binary.LittleEndian.Uint16(b[9:]) != flagCRC64:
			return badStructure("its flags are not those of checksums.")
		}
		s.started, s.segments = true, binary.LittleEndian.Uint16(b[11:])
	} else if s.segment > 0 {
		if err := s.take(b[:checksumSize]); err != nil {
			return err
		}
		if binary.LittleEndian.Uint64(b[:]) != s.own {
			return badChecksum()
		}
	}
	if s.segment == s.segments {
		if err := s.take(b[:checksumSize]); err != nil {
			return err
		}
		switch {
		case binary.LittleEndian.Uint64(b[:]) != s.all:
			return badChecksum()
		case s.left != 0:
			return badStructure("it goes on behind its end.")
		}
		return io.EOF
	}
	if err := s.take(b[:segmentHeadSize]); err != nil {
		return err
	}
	s.segment++
	s.own = 0
	size := binary.LittleEndian.Uint64(b[2:])
	switch {
	case binary.LittleEndian.Uint16(b[:]) != s.segment:
		return badStructure("its segments are out of order.")
	case size > uint64(s.left):
		return badStructure("a segment is longer than the message.")
	}
	s.data = int64(size)
	return nil
}

// A structuredWriter puts the data of a known length into frames. The data's last
// byte brings the end with it.
type structuredWriter struct {
	w        io.Writer
	size     int64 // of the data
	segment  int64 // of a segment's data
	segments int64
	number   int64 // of the segment that is being written, from 1
	left     int64 // of its data
	own, all uint64
	begun    bool
}

// newStructuredWriter returns the writer, and the length of the message.
func newStructuredWriter(w io.Writer, size int64) (*structuredWriter, int64) {
	s := &structuredWriter{w: w, size: size, segment: max(structuredSegment, (size+maxSegments-1)/maxSegments)}
	s.segments = max(1, (size+s.segment-1)/s.segment)
	return s, messageHeadSize + s.segments*(segmentHeadSize+checksumSize) + size + checksumSize
}

func (s *structuredWriter) begin() error {
	s.begun = true
	length := messageHeadSize + s.segments*(segmentHeadSize+checksumSize) + s.size + checksumSize
	b := []byte{1}
	b = binary.LittleEndian.AppendUint64(b, uint64(length))
	b = binary.LittleEndian.AppendUint16(b, flagCRC64)
	b = binary.LittleEndian.AppendUint16(b, uint16(s.segments))
	return s.next(b)
}

// next writes what stands before the next segment's data, behind b; or the end.
func (s *structuredWriter) next(b []byte) error {
	if s.number == s.segments {
		b = binary.LittleEndian.AppendUint64(b, s.all)
	} else {
		s.left = min(s.segment, s.size-s.number*s.segment)
		s.number++
		b = binary.LittleEndian.AppendUint16(b, uint16(s.number))
		b = binary.LittleEndian.AppendUint64(b, uint64(s.left))
	}
	_, err := s.w.Write(b)
	return err
}

func (s *structuredWriter) Write(p []byte) (n int, err error) {
	if !s.begun {
		if err := s.begin(); err != nil {
			return 0, err
		}
	}
	for len(p) > 0 && s.left > 0 {
		m, err := s.w.Write(p[:min(int64(len(p)), s.left)])
		s.own = crc64.Update(s.own, CRC64, p[:m])
		s.all = crc64.Update(s.all, CRC64, p[:m])
		s.left -= int64(m)
		n += m
		p = p[m:]
		if err == nil && s.left == 0 {
			err = s.close()
		}
		if err != nil {
			return n, err
		}
	}
	if len(p) > 0 {
		return n, io.ErrShortWrite // more than was said
	}
	return n, nil
}

// close ends the segment.
func (s *structuredWriter) close() error {
	b := binary.LittleEndian.AppendUint64(nil, s.own)
	s.own = 0
	return s.next(b)
}

// structured is a content in frames.
type structured struct {
	body io.WriterTo
	size int64
}

// WriteTo writes the message. It counts the data, as the content would.
func (s structured) WriteTo(w io.Writer) (int64, error) {
	to, _ := newStructuredWriter(w, s.size)
	if s.size == 0 {
		if err := to.begin(); err != nil {
			return 0, err
		}
		return 0, to.close()
	}
	return s.body.WriteTo(to)
}
