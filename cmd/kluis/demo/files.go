package demo

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// A file is one that the story uploads.
type file struct {
	path string // below the lakehouse's Files folder, with slashes
	data []byte
}

// readFiles reads a folder of the user's own.
func readFiles(dir string) (files []file, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := root.ReadFile(filepath.FromSlash(p))
		files = append(files, file{path: p, data: data})
		return err
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("%s holds no files", dir)
	}
	return files, err
}

var (
	firstNames = []string{"Femke", "Joris", "Sanne", "Willem", "Aaltje", "Bram", "Noor", "Teun", "Lotte", "Gijs", "Ilse", "Daan"}
	lastNames  = []string{"de Groot", "van Dijk", "Hoekstra", "Bakker", "Visser", "Smeets", "Kuipers", "van den Berg", "Postma"}
	cities     = []string{"Utrecht", "Leeuwarden", "Maastricht", "Zwolle", "Den Helder", "Middelburg", "Assen", "Gouda"}
)

// sampleFiles makes a few MB of data as a bank's lakehouse might hold them:
// Parquet, CSV and JSON, different at each run.
func sampleFiles() []file {
	r := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	var files []file
	for month := 1; month <= 6; month++ {
		files = append(files, file{
			path: fmt.Sprintf("payments/2026/month=%02d/settled-transfers.parquet", month),
			data: transfers(r, 12_000),
		})
	}
	files = append(files,
		file{path: "customers/private-banking-clients.csv", data: customers(r, 20_000)},
		file{path: "customers/dossiers/compliance-review.json", data: dossiers(r, 1_500)},
		file{path: "market/tick-history.parquet", data: transfers(r, 500_000)},
	)
	for i := range 20 {
		files = append(files, file{
			path: fmt.Sprintf("market/notes/analyst-note-%02d.json", i),
			data: []byte(fmt.Sprintf(`{"note":%d,"author":%q,"text":"confidential view on counterparty %08x"}`+"\n", i, person(r), r.Uint32())),
		})
	}
	return files
}

func person(r *rand.Rand) string {
	return firstNames[r.IntN(len(firstNames))] + " " + lastNames[r.IntN(len(lastNames))]
}

func transfers(r *rand.Rand, n int) []byte {
	ids, amounts, names := make([]int64, n), make([]float64, n), make([]string, n)
	for i := range n {
		ids[i] = r.Int64()
		amounts[i] = float64(r.IntN(100_000_000)) / 100
		names[i] = person(r)
	}
	var f parquetFile
	f.int64s("transfer_id", ids)
	f.doubles("amount_eur", amounts)
	f.strings("beneficiary", names)
	return f.bytes()
}

func customers(r *rand.Rand, n int) []byte {
	var b strings.Builder
	b.WriteString("customer_id,name,city,iban,balance_eur\n")
	for range n {
		fmt.Fprintf(&b, "%016x,%s,%s,NL%02dKLUI%010d,%d.%02d\n", r.Uint64(), person(r), cities[r.IntN(len(cities))],
			r.IntN(90)+10, r.IntN(1e10), r.IntN(1e6), r.IntN(100))
	}
	return []byte(b.String())
}

func dossiers(r *rand.Rand, n int) []byte {
	type dossier struct {
		ID      string `json:"id"`
		Subject string `json:"subject"`
		Finding string `json:"finding"`
	}
	all := make([]dossier, n)
	for i := range all {
		all[i] = dossier{fmt.Sprintf("%016x", r.Uint64()), person(r), fmt.Sprintf("source of funds unclear, case %08x", r.Uint32())}
	}
	b, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		panic(err) // plain strings do not fail
	}
	return b
}

// longDownload is how large a file must be for a download of it to be under way
// still when the key is taken away: sockets buffer several MiB.
const longDownload = 12 << 20

// withLarge adds a file that is long to download, if there is none.
func withLarge(files []file) []file {
	if len(largest(files).data) >= longDownload {
		return files
	}
	r := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	return append(files, file{path: "kluis-demo/added-long-download.parquet", data: transfers(r, 500_000)})
}

// largest returns the largest of the files.
func largest(files []file) file {
	l := files[0]
	for _, f := range files {
		if len(f.data) > len(l.data) {
			l = f
		}
	}
	return l
}

func smallest(files []file) file {
	l := files[0]
	for _, f := range files {
		if len(f.data) < len(l.data) && len(f.data) > 0 {
			l = f
		}
	}
	return l
}

// folders returns the names of all folders that the files lie in.
func folders(files []file) []string {
	seen := map[string]bool{}
	var out []string
	for _, f := range files {
		for d := path.Dir(f.path); d != "." && d != "/"; d = path.Dir(d) {
			if name := path.Base(d); !seen[name] {
				seen[name] = true
				out = append(out, name)
			}
		}
	}
	return out
}
