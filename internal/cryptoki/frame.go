package cryptoki

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// ErrFrame is wrapped by every error about bytes that are not of the protocol.
var ErrFrame = errors.New("malformed frame")

// Write writes one frame. A *[Request] or *[Response] that breaks the protocol's
// limits is refused with [ErrFrame], and nothing is written.
func Write(w io.Writer, message interface{ Check() error }) error {
	if err := message.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrFrame, err)
	}
	body, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFrame, err)
	}
	defer clear(body)
	if len(body) > MaxFrame {
		return fmt.Errorf("%w: %d bytes", ErrFrame, len(body))
	}
	frame := make([]byte, 4+len(body))
	defer clear(frame)
	binary.BigEndian.PutUint32(frame, uint32(len(body)))
	copy(frame[4:], body)
	_, err = w.Write(frame)
	return err
}

// ReadRequest reads one frame. The error is io.EOF at the end between frames, and
// wraps [ErrFrame] if the frame is malformed; ID is set then if it could be read.
func ReadRequest(r io.Reader) (*Request, error) {
	m := new(Request)
	return m, read(r, m)
}

// ReadResponse reads one frame in the same way.
func ReadResponse(r io.Reader) (*Response, error) {
	m := new(Response)
	return m, read(r, m)
}

func read(r io.Reader, m interface{ Check() error }) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > MaxFrame {
		return fmt.Errorf("%w: of %d bytes", ErrFrame, n)
	}
	body := make([]byte, n)
	defer clear(body)
	if _, err := io.ReadFull(r, body); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return fmt.Errorf("%w: not the JSON expected", ErrFrame) // the cause may quote the value
	}
	if d.InputOffset() != int64(len(body)) {
		return fmt.Errorf("%w: more than one object", ErrFrame)
	}
	if err := m.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return nil
}
