package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"sort"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A request or a response of kmsg.
type message interface {
	MaxVersion() int16
	SetVersion(int16)
	AppendTo([]byte) []byte
	ReadFrom([]byte) error
}

// Tagged fields younger than the flexible versions of their message: kmsg writes them in every flexible version, so
// they keep their default in the versions before.
var since = map[string]int16{
	"ProduceResponse.Brokers":                       10,
	"ProduceResponseTopicPartition.CurrentLeader":   10,
	"FetchRequest.ReplicaState":                     15,
	"FetchRequestTopicPartition.ReplicaDirectoryID": 17,
	"FetchRequestTopicPartition.HighWatermark":      18,
	"FetchResponse.Brokers":                         16,
}

// What kmsg calls otherwise than Kafka.
var otherwise = map[string]string{"AlterPartitionReassignments": "AlterPartitionAssignments"}

type served struct {
	name     string
	key      int16
	from, to int16
}

// Writes crates/protocol/tests/vectors/franz.txt: bytes of every API in every version that is served, as franz-go
// makes them. The values are chosen here, by the type of the field; franz-go must read and write them alike.
func printVectors(definitions string) error {
	apis, err := servedAPIs(definitions)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	fmt.Fprintf(out, "# Made by tests/clients/go (vectors.go) with %s; one line is a message, its version, its bytes.\n", kmsgVersion())
	for _, api := range apis {
		expected := api.name
		if name, ok := otherwise[api.name]; ok {
			expected = name
		}
		if name := kmsg.NameForKey(api.key); !strings.EqualFold(name, expected) {
			return fmt.Errorf("%d is %s here and %s there", api.key, api.name, name)
		}
		for _, role := range []string{"Request", "Response"} {
			fresh := func() message {
				if role == "Request" {
					return kmsg.RequestForKey(api.key)
				}
				return kmsg.ResponseForKey(api.key)
			}
			for version := api.from; version <= min(api.to, fresh().MaxVersion()); version++ {
				written, err := vector(fresh, version)
				if err != nil {
					return fmt.Errorf("%s%s %d: %w", api.name, role, version, err)
				}
				fmt.Fprintf(out, "%s%s %d %s\n", api.name, role, version, hex.EncodeToString(written))
			}
		}
	}
	return nil
}

func vector(fresh func() message, version int16) ([]byte, error) {
	first, second := fresh(), fresh()
	filler := filler{version, int(version)}
	filler.fill(reflect.ValueOf(first).Elem())
	first.SetVersion(version)
	written := first.AppendTo(nil)
	second.SetVersion(version)
	if err := second.ReadFrom(written); err != nil {
		return nil, err
	}
	if again := second.AppendTo(nil); !bytes.Equal(written, again) {
		return nil, fmt.Errorf("franz-go disagrees with itself: %x, then %x", written, again)
	}
	return written, nil
}

// Gives each field a value that says which one it is; now and then null, empty, or two elements.
type filler struct {
	version int16
	count   int
}

func (f *filler) fill(value reflect.Value) {
	f.count++
	count := f.count
	switch value.Kind() {
	case reflect.Bool:
		value.SetBool(true)
	case reflect.Int8:
		value.SetInt(int64(int8(count)))
	case reflect.Int16:
		value.SetInt(int64(int16(count * 0x0101)))
	case reflect.Uint16:
		value.SetUint(uint64(uint16(count * 0x0101)))
	case reflect.Int32:
		value.SetInt(int64(int32(count * 0x01010101)))
	case reflect.Int64:
		value.SetInt(int64(count) * 0x0101010101010101)
	case reflect.String:
		value.SetString(fmt.Sprintf("text-%d", count))
	case reflect.Pointer:
		if count%3 == 0 {
			value.SetZero()
			return
		}
		value.Set(reflect.New(value.Type().Elem()))
		f.fill(value.Elem())
	case reflect.Array: // A UUID.
		for index := range value.Len() {
			value.Index(index).SetUint(uint64(byte(count + index)))
		}
	case reflect.Slice:
		if value.Type().Elem().Kind() == reflect.Uint8 {
			value.SetBytes([]byte{1, 2, byte(count)})
			return
		}
		elements := reflect.MakeSlice(value.Type(), count%3, count%3)
		for index := range elements.Len() {
			f.fill(elements.Index(index))
		}
		value.Set(elements)
	case reflect.Struct:
		if element, ok := value.Addr().Interface().(interface{ Default() }); ok {
			element.Default()
		}
		for index := range value.NumField() {
			name := value.Type().Field(index).Name
			if name != "Version" && name != "UnknownTags" && since[value.Type().Name()+"."+name] <= f.version {
				f.fill(value.Field(index))
			}
		}
	default:
		panic("a field of an unknown kind: " + value.Type().String())
	}
}

// The APIs and versions that the definitions name.
func servedAPIs(folder string) ([]served, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.msg"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no definitions in %s (%v)", folder, err)
	}
	var apis []served
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var api served
		for _, line := range strings.Split(string(text), "\n") {
			fmt.Sscanf(line, "api %s %d", &api.name, &api.key)
			if rest, found := strings.CutPrefix(line, "versions "); found {
				if count, _ := fmt.Sscanf(rest, "%d-%d", &api.from, &api.to); count == 1 {
					api.to = api.from
				}
			}
		}
		if api.name != "" {
			apis = append(apis, api)
		}
	}
	sort.Slice(apis, func(a, b int) bool { return apis[a].key < apis[b].key })
	return apis, nil
}

func kmsgVersion() string {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if strings.HasSuffix(module.Path, "/kmsg") {
			return module.Path + " " + module.Version
		}
	}
	return "kmsg"
}
