package storagewire_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc64"
	"io"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/kluis-io/kluis/api/storagewire"
)

func itoa(n int) string { return strconv.Itoa(n) }

// frame puts data into a structured message, as the SDK does.
func frame(data []byte, segment int) []byte {
	segments := max(1, (len(data)+segment-1)/segment)
	b := []byte{1}
	b = binary.LittleEndian.AppendUint64(b, uint64(13+segments*18+len(data)+8))
	b = binary.LittleEndian.AppendUint16(b, 1)
	b = binary.LittleEndian.AppendUint16(b, uint16(segments))
	for i := range segments {
		part := data[i*segment : min(len(data), (i+1)*segment)]
		b = binary.LittleEndian.AppendUint16(b, uint16(i+1))
		b = binary.LittleEndian.AppendUint64(b, uint64(len(part)))
		b = append(b, part...)
		b = binary.LittleEndian.AppendUint64(b, crc64.Checksum(part, storagewire.CRC64))
	}
	return binary.LittleEndian.AppendUint64(b, crc64.Checksum(data, storagewire.CRC64))
}

// Whatever the body, the reader ends; what it gives without an error is what a
// message holds that is framed again to the same bytes, if its segments are equal.
func FuzzStructured(f *testing.F) {
	f.Add(frame(nil, 4))
	f.Add(frame([]byte("hello, lake"), 4))
	f.Add(frame([]byte("hello, lake"), 100))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, message []byte) {
		r := httptest.NewRequest("PUT", "/", bytes.NewReader(message))
		r.Header.Set("x-ms-structured-body", "XSM/1.0; properties=crc64")
		r.Header.Set("x-ms-structured-content-length", "0")
		b, err := storagewire.ParseBody(httptest.NewRecorder(), r, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(b)
		if err != nil {
			return
		}
		if len(data) > len(message) || len(message) < 21 {
			t.Fatalf("%d bytes out of %d", len(data), len(message))
		}
		if sum := binary.LittleEndian.Uint64(message[len(message)-8:]); sum != crc64.Checksum(data, storagewire.CRC64) {
			t.Fatal("accepted with another checksum")
		}
	})
}
