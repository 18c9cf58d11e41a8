package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"strings"
	"time"
)

// The limit only bounds a failure.
const limit = 30 * time.Second

const crossCount = 300

var (
	bootstrap = os.Getenv("BOOTSTRAP")
	codecs    = []string{"none", "gzip", "snappy", "lz4", "zstd"}
	failed    = false
)

// A promise, and what shows that it is kept.
type check struct {
	promise string
	body    func() error
}

func run(check check) {
	started := time.Now()
	if err := check.body(); err != nil {
		report(check.promise, err)
		return
	}
	report(fmt.Sprintf("%s (%.1f s)", check.promise, time.Since(started).Seconds()), nil)
}

func report(promise string, err error) {
	if err == nil {
		fmt.Printf("ok - go: %s\n", promise)
		return
	}
	failed = true
	fmt.Printf("not ok - go: %s # %s\n", promise, strings.Join(strings.Fields(err.Error()), " "))
}

func equal(expected, actual any, what string) error {
	if reflect.DeepEqual(expected, actual) {
		return nil
	}
	return fmt.Errorf("%s: expected %v, got %v", what, expected, actual)
}

func until(what string, condition func() (bool, error)) error {
	deadline := time.Now().Add(limit)
	for {
		done, err := condition()
		if err != nil || done {
			return err
		}
		if deadline.Before(time.Now()) {
			return fmt.Errorf("not within %v: %s", limit, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func unique(prefix string) string {
	return fmt.Sprintf("%s-%d-%d", prefix, os.Getpid(), time.Now().UnixNano())
}

// One command to the control socket: it stops, kills or starts the broker.
func control(command string) error {
	connection, err := net.Dial("tcp", os.Getenv("CONTROL"))
	if err != nil {
		return err
	}
	defer connection.Close()
	if _, err := fmt.Fprintln(connection, command); err != nil {
		return err
	}
	answer, err := bufio.NewReader(connection).ReadString('\n')
	if err == nil && !strings.HasPrefix(answer, "ok ") {
		err = errors.New(command + ": " + answer)
	}
	return err
}

func crossTopic(writer, codec string) string {
	return "cross-" + writer + "-" + codec
}

func crossValue(writer, codec string, index int) string {
	return strings.Repeat(fmt.Sprintf("%s/%s/%d;", writer, codec, index), index%20+1)
}
