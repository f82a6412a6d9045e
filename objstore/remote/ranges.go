package remote

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Range returns the value of the header Range for n bytes from off (RFC 9110,
// section 14.1.2).
func Range(off, n int64) string { return fmt.Sprintf("bytes=%d-%d", off, off+n-1) }

// Size returns what the header Content-Range says of the size of the whole, after it
// has checked that the answer begins at off (RFC 9110, section 14.4).
func Size(contentRange string, off int64) (int64, error) {
	first, size, ok := strings.Cut(strings.TrimPrefix(contentRange, "bytes "), "/")
	first, _, _ = strings.Cut(first, "-")
	begin, err := strconv.ParseInt(first, 10, 64)
	n, err2 := strconv.ParseInt(size, 10, 64)
	if err = errors.Join(err, err2); !ok || err != nil || begin != off || n <= off {
		return 0, Refused(fmt.Errorf("the range from byte %d was asked for, and the answer has the range %q", off, contentRange))
	}
	return n, nil
}
