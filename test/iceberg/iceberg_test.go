// Package iceberg writes and reads an Apache Iceberg table in a kluis server with
// the Iceberg project's own Go module, unmodified and in a module of its own, so
// that none of its dependencies become kluis's.
package iceberg

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/catalog"
	sqlcatalog "github.com/apache/iceberg-go/catalog/sql"
	"github.com/apache/iceberg-go/table"
	"github.com/uptrace/bun/driver/sqliteshim"

	_ "github.com/apache/iceberg-go/io/gocloud/azure"
)

// The table is written and read in a process of its own, whose environment leads
// the library to the server: its authority, its managed identities, and a proxy
// that finds its hosts.
func TestTable(t *testing.T) {
	if os.Getenv("KLUIS_WAREHOUSE") != "" {
		write(t)
		return
	}
	s := serve(t)
	s.call(t, "POST", "/workspaces", `{"displayName":"tables"}`)
	workspace := s.made
	s.call(t, "POST", "/workspaces/"+workspace+"/items", `{"displayName":"lake","type":"Lakehouse"}`)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestTable$", "-test.v")
	cmd.Env = append(os.Environ(),
		"KLUIS_WAREHOUSE=abfss://tables@onelake.blob.localhost/lake.Lakehouse/Tables/warehouse", "KLUIS_BLOB=blob.localhost:"+s.port,
		"IDENTITY_ENDPOINT="+s.ManagedIdentity.Endpoint, "IDENTITY_HEADER="+s.ManagedIdentity.Header, "KLUIS_CLIENT="+s.Principals["engineer"].ClientID,
		"SSL_CERT_FILE="+s.CAFile, "HTTPS_PROXY="+s.proxy, "https_proxy="+s.proxy, "NO_PROXY=", "no_proxy=")
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestTable")) {
		t.Errorf("%v\n%s", err, out)
	}
}

const (
	appends = 5
	rows    = 2000
)

func write(t *testing.T) {
	ctx := t.Context()
	props := iceberg.Properties{
		sqlcatalog.DriverKey: sqliteshim.ShimName, sqlcatalog.DialectKey: string(sqlcatalog.SQLite), "init_catalog_tables": "true",
		"type": "sql", "uri": "file:" + filepath.Join(t.TempDir(), "catalog.db"), "warehouse": os.Getenv("KLUIS_WAREHOUSE"),
		"adls.endpoint": os.Getenv("KLUIS_BLOB"), "adls.protocol": "https",
		"adls.auth.managed-identity.enabled": "true", "adls.client-id": os.Getenv("KLUIS_CLIENT"),
	}
	open := func() catalog.Catalog {
		c, err := catalog.Load(ctx, "kluis", props)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open()
	if err := c.CreateNamespace(ctx, table.Identifier{"sales"}, nil); err != nil {
		t.Fatal("the namespace: ", err)
	}
	schema := iceberg.NewSchema(0,
		iceberg.NestedField{ID: 1, Name: "id", Type: iceberg.PrimitiveTypes.Int64, Required: true},
		iceberg.NestedField{ID: 2, Name: "who", Type: iceberg.PrimitiveTypes.String})
	name := table.Identifier{"sales", "orders"}
	tbl, err := c.CreateTable(ctx, name, schema, catalog.WithProperties(props))
	if err != nil {
		t.Fatal("the table: ", err)
	}
	for n := range appends {
		batch := orders(n)
		defer batch.Release()
		if tbl, err = tbl.AppendTable(ctx, batch, 500, nil); err != nil {
			t.Fatalf("append %d: %v", n, err)
		}
	}

	// Somebody else reads it.
	tbl, err = open().LoadTable(ctx, name)
	if err != nil {
		t.Fatal("loading: ", err)
	}
	if got := len(tbl.Metadata().Snapshots()); got != appends {
		t.Errorf("%d snapshots, want %d", got, appends)
	}
	sum := func(o ...table.ScanOption) (count, total int64) {
		t.Helper()
		got, err := tbl.Scan(o...).ToArrowTable(ctx)
		if err != nil {
			t.Fatal("scanning: ", err)
		}
		defer got.Release()
		for _, chunk := range got.Column(0).Data().Chunks() {
			for _, v := range chunk.(*array.Int64).Int64Values() {
				count, total = count+1, total+v
			}
		}
		return count, total
	}
	const all = appends * rows
	if count, total := sum(); count != all || total != all*(all-1)/2 {
		t.Errorf("%d rows, in all %d; want %d and %d", count, total, all, all*(all-1)/2)
	}
	if count, total := sum(table.WithRowFilter(iceberg.LessThan(iceberg.Reference("id"), int64(10)))); count != 10 || total != 45 {
		t.Errorf("filtered: %d rows, in all %d; want 10 and 45", count, total)
	}
	if count, _ := sum(table.WithSnapshotID(tbl.Metadata().Snapshots()[0].SnapshotID)); count != rows {
		t.Errorf("the first snapshot has %d rows, want %d", count, rows)
	}
}

// orders makes the n-th batch of rows.
func orders(n int) arrow.Table {
	schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "who", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for i := range rows {
		b.Field(0).(*array.Int64Builder).Append(int64(n*rows + i))
		b.Field(1).(*array.StringBuilder).Append(fmt.Sprint("customer ", i%7, strings.Repeat(".", i%50)))
	}
	record := b.NewRecordBatch()
	defer record.Release()
	return array.NewTableFromRecords(schema, []arrow.RecordBatch{record})
}
