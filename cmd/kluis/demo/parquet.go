package demo

import (
	"bytes"
	"encoding/binary"
	"math"
)

// A parquetFile writes a small Apache Parquet file: one row group, required
// columns, PLAIN encoding, no compression. It is enough for data that real
// readers open, and no more
// (https://github.com/apache/parquet-format, thrift compact protocol).
type parquetFile struct {
	rows    int
	columns []parquetColumn
}

type parquetColumn struct {
	name string
	kind int32 // Parquet's physical type
	text bool  // a byte array that holds UTF-8
	data []byte
}

const (
	parquetInt64     = 2
	parquetDouble    = 5
	parquetByteArray = 6
)

func (f *parquetFile) int64s(name string, values []int64) {
	b := make([]byte, 0, 8*len(values))
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	f.columns = append(f.columns, parquetColumn{name: name, kind: parquetInt64, data: b})
	f.rows = len(values)
}

func (f *parquetFile) doubles(name string, values []float64) {
	b := make([]byte, 0, 8*len(values))
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	}
	f.columns = append(f.columns, parquetColumn{name: name, kind: parquetDouble, data: b})
	f.rows = len(values)
}

func (f *parquetFile) strings(name string, values []string) {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(v)))
		b = append(b, v...)
	}
	f.columns = append(f.columns, parquetColumn{name: name, kind: parquetByteArray, text: true, data: b})
	f.rows = len(values)
}

// bytes returns the file.
func (f *parquetFile) bytes() []byte {
	var out bytes.Buffer
	out.WriteString("PAR1")
	offsets, sizes := make([]int64, len(f.columns)), make([]int64, len(f.columns))
	for i, c := range f.columns {
		offsets[i] = int64(out.Len())
		var t thrift
		t.i32(1, 0) // DATA_PAGE
		t.i32(2, int32(len(c.data)))
		t.i32(3, int32(len(c.data)))
		t.open(5) // DataPageHeader
		t.i32(1, int32(f.rows))
		t.i32(2, 0) // PLAIN
		t.i32(3, 3) // RLE, of levels that required columns do not have
		t.i32(4, 3)
		t.close()
		t.stop()
		out.Write(t.b)
		out.Write(c.data)
		sizes[i] = int64(out.Len()) - offsets[i]
	}
	footer := f.footer(offsets, sizes)
	out.Write(footer)
	out.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(footer))))
	out.WriteString("PAR1")
	return out.Bytes()
}

func (f *parquetFile) footer(offsets, sizes []int64) []byte {
	var t thrift
	t.i32(1, 1) // version
	t.list(2, len(f.columns)+1, thriftStruct)
	t.begin()
	t.text(4, "schema")
	t.i32(5, int32(len(f.columns)))
	t.stop()
	for _, c := range f.columns {
		t.begin()
		t.i32(1, c.kind)
		t.i32(3, 0) // REQUIRED
		t.text(4, c.name)
		if c.text {
			t.i32(6, 0) // UTF8
		}
		t.stop()
	}
	t.i64(3, int64(f.rows))
	t.list(4, 1, thriftStruct)
	t.begin()
	t.list(1, len(f.columns), thriftStruct)
	var total int64
	for i, c := range f.columns {
		total += sizes[i]
		t.begin()
		t.i64(2, offsets[i])
		t.open(3) // ColumnMetaData
		t.i32(1, c.kind)
		t.list(2, 1, thriftI32)
		t.varint(0) // PLAIN
		t.list(3, 1, thriftBinary)
		t.raw(c.name)
		t.i32(4, 0) // UNCOMPRESSED
		t.i64(5, int64(f.rows))
		t.i64(6, sizes[i])
		t.i64(7, sizes[i])
		t.i64(9, offsets[i])
		t.close()
		t.stop()
	}
	t.i64(2, total)
	t.i64(3, int64(f.rows))
	t.stop()
	t.text(6, "kluis demo")
	t.stop()
	return t.b
}

// A thrift writes thrift's compact protocol.
type thrift struct {
	b    []byte
	last []int16 // the last field's id, of each struct that is open
}

const (
	thriftI32    = 5
	thriftI64    = 6
	thriftBinary = 8
	thriftList   = 9
	thriftStruct = 12
)

func (t *thrift) field(id int16, kind byte) {
	if len(t.last) == 0 {
		t.last = []int16{0}
	}
	top := &t.last[len(t.last)-1]
	t.b = append(t.b, byte(id-*top)<<4|kind) // ids grow by less than 16 here
	*top = id
}

func (t *thrift) varint(v uint64) { t.b = binary.AppendUvarint(t.b, v) }

func (t *thrift) zigzag(v int64) { t.varint(uint64(v<<1) ^ uint64(v>>63)) }

func (t *thrift) i32(id int16, v int32) { t.field(id, thriftI32); t.zigzag(int64(v)) }

func (t *thrift) i64(id int16, v int64) { t.field(id, thriftI64); t.zigzag(v) }

func (t *thrift) text(id int16, s string) { t.field(id, thriftBinary); t.raw(s) }

func (t *thrift) raw(s string) { t.varint(uint64(len(s))); t.b = append(t.b, s...) }

func (t *thrift) list(id int16, n int, kind byte) {
	t.field(id, thriftList)
	if n < 15 {
		t.b = append(t.b, byte(n)<<4|kind)
		return
	}
	t.b = append(t.b, 0xf0|kind)
	t.varint(uint64(n))
}

// open starts a struct in a field, and close ends it. begin starts one in a list,
// and stop ends one that is no field.
func (t *thrift) open(id int16) { t.field(id, thriftStruct); t.begin() }

func (t *thrift) begin() { t.last = append(t.last, 0) }

func (t *thrift) close() { t.stop() }

func (t *thrift) stop() {
	t.b = append(t.b, 0)
	if len(t.last) > 0 {
		t.last = t.last[:len(t.last)-1]
	}
}
