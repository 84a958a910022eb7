// yamltojson reads YAML as Kubernetes does. Each line of its input is a JSON string that holds one document; each line of its output is
// that document as JSON, or null where it is refused.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"sigs.k8s.io/yaml"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<28)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for lines.Scan() {
		var text string
		if err := json.Unmarshal(lines.Bytes(), &text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		document, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			document = []byte("null")
		}
		fmt.Fprintf(out, "%s\n", document)
	}
}
