package envelope_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const sealedChunk = 16384 + 16

// generateVectors returns the files of testdata by name, made from the reference.
func generateVectors() map[string]string {
	files := map[string]string{
		"testdata/contexts.txt":   contextVectors(),
		"testdata/scope-keys.txt": scopeKeyVectors(),
		"testdata/records.txt":    recordVectors(),
	}
	for name, v := range messageVectors() {
		files["testdata/messages/"+name+".txt"] = v
	}
	return files
}

func messageVectors() map[string]string {
	files := map[string]string{}
	key, salt := pattern("message key", 32), pattern("message salt", 24)
	context := refContext([]byte("kluis/v1/extent"), []byte("instance"), []byte("tenant"), []byte("scope"), []byte("item"), []byte("object"))
	plain := func(n int) []byte { return pattern("plaintext", n) }
	good := func(n int) []byte { return refSeal(key, context, salt, plain(n)) }

	add := func(name, class, comment string, key, context, sealed []byte, rest ...string) {
		lines := []string{"comment", comment, "expect", class, "key", fmt.Sprintf("%x", key), "context", fmt.Sprintf("%x", context)}
		lines = append(lines, rest...)
		files[name] = stanza(append(lines, "sealed", base64.StdEncoding.EncodeToString(sealed))...)
	}
	for _, n := range []int{0, 1, 100, 16383, 16384, 16385, 32768, 40000} {
		add(fmt.Sprintf("size-%05d", n), "success", fmt.Sprintf("%d bytes", n), key, context, good(n),
			"salt", fmt.Sprintf("%x", salt),
			"plaintext-size", strconv.Itoa(n),
			"plaintext-sha256", fmt.Sprintf("%x", sha256.Sum256(plain(n))))
	}

	flip := func(b []byte, i int) []byte {
		b = bytes.Clone(b)
		b[i] ^= 1
		return b
	}
	other := bytes.Clone(key)
	other[31] ^= 1
	moved := refContext([]byte("kluis/v1/extent"), []byte("instance"), []byte("tenant"), []byte("scope"), []byte("item"), []byte("objecu"))
	shifted := refContext([]byte("kluis/v1/extent"), []byte("instance"), []byte("tenant"), []byte("scope"), []byte("itemo"), []byte("bject"))
	add("wrong-key", "commitment", "another key", other, context, good(100))
	add("wrong-context", "commitment", "another object's place", key, moved, good(100))
	add("shifted-context", "commitment", "the same letters, another division into fields", key, shifted, good(100))
	add("flipped-salt", "commitment", "one bit of the salt", key, context, flip(good(100), 0))
	add("flipped-commitment", "commitment", "one bit of the commitment", key, context, flip(good(100), 55))
	add("flipped-chunk", "chunk", "one bit of chunk 0", key, context, flip(good(100), 56))
	add("flipped-tag", "chunk", "one bit of the last chunk's tag", key, context, flip(good(100), 56+100+15))
	add("flipped-second-chunk", "chunk", "one bit of chunk 1", key, context, flip(good(16400), 56+sealedChunk))

	whole := good(32768)
	header, c0, c1, c2 := whole[:56], whole[56:][:sealedChunk], whole[56+sealedChunk:][:sealedChunk], whole[56+2*sealedChunk:]
	add("swapped-chunks", "chunk", "chunk 1 before chunk 0", key, context, slices.Concat(header, c1, c0, c2))
	add("dropped-first-chunk", "chunk", "chunk 0 left out", key, context, slices.Concat(header, c1, c2))
	add("dropped-middle-chunk", "chunk", "chunk 1 left out", key, context, slices.Concat(header, c0, c2))
	add("repeated-last-chunk", "chunk", "the empty last chunk twice", key, context, slices.Concat(header, c0, c1, c2, c2))
	add("truncated-at-chunk", "size", "the last chunk left out", key, context, slices.Concat(header, c0))
	add("truncated-in-chunk", "chunk", "half of chunk 0", key, context, whole[:56+8192])
	add("truncated-in-tag", "size", "15 bytes after chunk 0", key, context, slices.Concat(header, c0, c1[:15]))
	add("truncated-header", "size", "a header of 55 bytes", key, context, whole[:55])
	add("header-only", "size", "a header and nothing else", key, context, header)
	add("nothing", "size", "no bytes at all", key, context, nil)
	add("extended", "chunk", "one byte too many", key, context, append(good(100), 0))

	// A full chunk that says that it is the last: sealed by hand, since nobody's
	// sealer makes it.
	add("full-last-chunk", "size", "one chunk of 16384 bytes and no short one after it", key, context, good(16384)[:56+sealedChunk])
	salt2 := pattern("another message's salt", 24)
	second := refSeal(key, context, salt2, plain(16384))
	add("spliced", "chunk", "the header of one message, a chunk of another", key, context, slices.Concat(good(100)[:56], second[56:]))
	return files
}

func contextVectors() string {
	number := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	return strings.Join([]string{
		stanza("comment", "purpose only", "purpose", "kluis/v1/test", "fields", "",
			"encoded", fmt.Sprintf("%x", refContext([]byte("kluis/v1/test")))),
		stanza("comment", "text", "purpose", "kluis/v1/test", "fields", "text=ab text=c",
			"encoded", fmt.Sprintf("%x", refContext([]byte("kluis/v1/test"), []byte("ab"), []byte("c")))),
		stanza("comment", "the same letters in other fields", "purpose", "kluis/v1/test", "fields", "text=a text=bc",
			"encoded", fmt.Sprintf("%x", refContext([]byte("kluis/v1/test"), []byte("a"), []byte("bc")))),
		stanza("comment", "an empty field counts", "purpose", "kluis/v1/test", "fields", "text=abc text=",
			"encoded", fmt.Sprintf("%x", refContext([]byte("kluis/v1/test"), []byte("abc"), nil))),
		stanza("comment", "bytes and a number", "purpose", "kluis/v1/test", "fields", "hex=00ff number=258",
			"encoded", fmt.Sprintf("%x", refContext([]byte("kluis/v1/test"), []byte{0, 255}, number(258)))),
	}, "\n")
}

func scopeKeyVectors() string {
	customer, platform := pattern("customer share", 32), pattern("platform share", 32)
	one := func(comment string, customer, platform, context []byte) string {
		key, commitment := refScopeKey(customer, platform, context)
		return stanza("comment", comment, "customer", fmt.Sprintf("%x", customer), "platform", fmt.Sprintf("%x", platform),
			"context", fmt.Sprintf("%x", context), "scope-key", fmt.Sprintf("%x", key), "commitment", fmt.Sprintf("%x", commitment))
	}
	context := func(generation byte) []byte {
		return refContext([]byte("kluis/v1/scope-key"), []byte("instance"), []byte("tenant"), []byte("scope"), []byte{0, 0, 0, 0, 0, 0, 0, generation})
	}
	return strings.Join([]string{
		one("generation 1", customer, platform, context(1)),
		one("generation 2 of the same shares", customer, platform, context(2)),
		one("the shares exchanged", platform, customer, context(1)),
	}, "\n")
}

func recordVectors() string {
	namespace, folder, salt := pattern("namespace key", 32), []byte("folder-1"), pattern("folder salt", 24)
	sealing, lookup := refFolder(namespace, folder, salt)
	entry, revision := []byte("entry-1"), uint64(7)
	common := []string{"namespace", fmt.Sprintf("%x", namespace), "folder", fmt.Sprintf("%x", folder), "salt", fmt.Sprintf("%x", salt)}
	var all []string
	add := func(comment string, lines ...string) {
		all = append(all, stanza(slices.Concat([]string{"comment", comment}, common, lines)...))
	}
	for _, n := range []int{0, 1, 63, 64, 65, 200} {
		record := pattern("record", n)
		sealed := refSealRecord(sealing, entry, revision, pattern("nonce", 12), record)
		add(fmt.Sprintf("%d bytes", n), "entry", fmt.Sprintf("%x", entry), "revision", "7", "expect", "success",
			"record", fmt.Sprintf("%x", record), "sealed", base64.StdEncoding.EncodeToString(sealed))
	}
	sealed := refSealRecord(sealing, entry, revision, pattern("nonce", 12), []byte("a record"))
	refused := func(comment string, entry []byte, revision string, sealed []byte) {
		add(comment, "entry", fmt.Sprintf("%x", entry), "revision", revision, "expect", "failure",
			"sealed", base64.StdEncoding.EncodeToString(sealed))
	}
	refused("another entry", []byte("entry-2"), "7", sealed)
	refused("another revision", entry, "8", sealed)
	refused("cut by a byte", entry, "7", sealed[:len(sealed)-1])
	refused("nonce and tag only", entry, "7", append(pattern("nonce", 12), refGCM(sealing).Seal(nil, pattern("nonce", 12), nil, append([]byte("entry-1"), 0, 0, 0, 0, 0, 0, 0, 7))...))
	refused("no padding", entry, "7", append(pattern("nonce", 12), refGCM(sealing).Seal(nil, pattern("nonce", 12), make([]byte, 64), append([]byte("entry-1"), 0, 0, 0, 0, 0, 0, 0, 7))...))
	for _, c := range [][2]string{{"entry", "a.parquet"}, {"Lakehouse", "a.parquet"}, {"entrya", ".parquet"}} {
		add("look-up", "kind", c[0], "name", c[1], "lookup", fmt.Sprintf("%x", refLookup(lookup, c[0], c[1])))
	}
	return strings.Join(all, "\n")
}
