package spark

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"unicode/utf8"
)

// maxLine bounds one line of an event log: a job's plan can be long.
const maxLine = 64 << 20

// ErrNotText says that the bytes are no properties file and no event log: most often
// an event log that is still compressed.
var ErrNotText = errors.New("this is neither a properties file nor an event log as text; decompress an event log first")

// Read reads an event log, or else a properties file.
func Read(r io.Reader) (Configuration, error) {
	b := bufio.NewReaderSize(r, 1<<16)
	for {
		c, err := b.ReadByte()
		if err != nil {
			return Configuration{}, fmt.Errorf("it is empty: %w", err)
		}
		if c == ' ' || c == '\t' || c == '\r' || c == '\n' {
			continue
		}
		b.UnreadByte()
		if c == '{' {
			return ReadEventLog(b)
		}
		return ReadProperties(b)
	}
}

// ReadEventLog reads the properties that an application ran with from its event log:
// one JSON object a line, of which SparkListenerLogStart tells the version and
// SparkListenerEnvironmentUpdate the properties
// (https://spark.apache.org/docs/latest/monitoring.html). The last of them count.
func ReadEventLog(r io.Reader) (Configuration, error) {
	c := Configuration{Properties: map[string]string{}, Ran: true}
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	told := false
	for n := 1; s.Scan(); n++ {
		line := bytes.TrimSpace(s.Bytes())
		if len(line) == 0 || !bytes.Contains(line, []byte("SparkListener")) {
			continue
		}
		var event struct {
			Event      string            `json:"Event"`
			Version    string            `json:"Spark Version"`
			Properties map[string]string `json:"Spark Properties"`
		}
		// Properties are read only where they stand: other events have other shapes.
		if !bytes.Contains(line, []byte("SparkListenerLogStart")) && !bytes.Contains(line, []byte("SparkListenerEnvironmentUpdate")) {
			continue
		}
		if err := json.Unmarshal(line, &event); err != nil {
			return c, fmt.Errorf("line %d is no event: %w", n, err)
		}
		switch event.Event {
		case "SparkListenerLogStart":
			c.Version = event.Version
		case "SparkListenerEnvironmentUpdate":
			c.Properties, told = map[string]string{}, true
			maps.Copy(c.Properties, event.Properties)
			maps.DeleteFunc(c.Properties, func(k, _ string) bool { return !strings.HasPrefix(k, "spark.") })
		}
	}
	if err := s.Err(); err != nil {
		return c, err
	}
	if !told {
		return c, errors.New("the event log does not tell the application's properties: give the part with SparkListenerEnvironmentUpdate")
	}
	return c, nil
}

// ReadProperties reads a file such as spark-defaults.conf, as Java's Properties and
// after it Spark does: a key, then "=", ":" or blanks, then the value; "#" and "!"
// begin comments, a backslash at the end goes on in the next line, a later line
// overrules an earlier, and only keys that begin with "spark." count.
func ReadProperties(r io.Reader) (Configuration, error) {
	c := Configuration{Properties: map[string]string{}}
	text, err := io.ReadAll(io.LimitReader(r, maxLine))
	if err != nil {
		return c, err
	}
	if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return c, ErrNotText
	}
	lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(text)), "\n")
	for i := 0; i < len(lines); i++ {
		line := strings.TrimLeft(lines[i], " \t\f")
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		for continues(line) && i+1 < len(lines) {
			i++
			line = line[:len(line)-1] + strings.TrimLeft(lines[i], " \t\f")
		}
		key, value := cut(line)
		if strings.HasPrefix(key, "spark.") {
			c.Properties[key] = strings.TrimSpace(value)
		}
	}
	return c, nil
}

// continues reports whether a line ends in an odd number of backslashes.
func continues(line string) bool {
	return (len(line)-len(strings.TrimRight(line, `\`)))%2 == 1
}

// cut splits a line at the first separator that no backslash stands before.
func cut(line string) (key, value string) {
	end := len(line)
	for i := 0; i < len(line); i++ {
		if line[i] == '\\' {
			i++
			continue
		}
		if strings.IndexByte("=: \t\f", line[i]) >= 0 {
			end = i
			break
		}
	}
	rest := strings.TrimLeft(line[end:], " \t\f")
	if rest != "" && (rest[0] == '=' || rest[0] == ':') {
		rest = strings.TrimLeft(rest[1:], " \t\f")
	}
	return unescape(line[:end]), unescape(rest)
}

// unescape takes backslashes away. The escapes of control characters and of code
// points stand in no value that is judged here, and stay as their letters.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
