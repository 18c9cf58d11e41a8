// Promises to users of franz-go and sarama: scenarios [PART-OF-A-NAME], cross-write or cross-read WRITER….
// `vectors FOLDER` prints messages as franz-go writes them (vectors.go).
//
// Prints "ok - NAME" or "not ok - NAME # REASON" for each check; `cargo xtask test` counts them. The broker's
// address comes in BOOTSTRAP, that of the control socket (stop, kill, start the broker) in CONTROL.
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	mode, rest := "scenarios", []string(nil)
	if 1 < len(os.Args) {
		mode, rest = os.Args[1], os.Args[2:]
	}
	switch mode {
	case "scenarios":
		for _, check := range append(franzChecks, saramaChecks...) {
			if len(rest) == 0 || strings.Contains(check.promise, rest[0]) {
				run(check)
			}
		}
	case "cross-write":
		report("franz-go writes with every codec", crossWrite())
	case "cross-read":
		crossRead(rest)
	case "vectors":
		if err := printVectors(rest[0]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		fmt.Fprintln(os.Stderr, "unknown mode", mode)
		os.Exit(2)
	}
	if failed {
		os.Exit(1)
	}
}
