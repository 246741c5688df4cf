// Package expect is what the programs say when a broker does not do what they expect: each place on a line, all of
// them, and an exit code that is not 0.
package expect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"time"
)

// Patience is how long a whole program may take. A client that waits for an answer tries again until then.
const Patience = 90 * time.Second

var failures int

// Context ends when patience does.
func Context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), Patience)
}

// Done ends the program.
func Done() {
	if failures > 0 {
		os.Exit(1)
	}
	fmt.Println("done")
}

func failed(format string, values ...any) {
	failures++
	_, file, line, _ := runtime.Caller(2)
	place := fmt.Sprintf("%s/%s:%d", filepath.Base(filepath.Dir(file)), filepath.Base(file), line)
	fmt.Fprintf(os.Stderr, "%s: %s\n", place, fmt.Sprintf(format, values...))
}

// Must is the value, where nothing further can be looked at without it.
func Must[T any](value T, err error) T {
	if err != nil {
		failed("failed: %v", err)
		os.Exit(1)
	}
	return value
}

// True is for what has no value to show but the words.
func True(holds bool, format string, values ...any) {
	if !holds {
		failed(format, values...)
	}
}

// Equal compares deeply.
func Equal[T any](found, wanted T) {
	if !reflect.DeepEqual(found, wanted) {
		failed("found %v, wanted %v", found, wanted)
	}
}

// Error is the broker's answer: an error of kerr, or nil.
func Error(found, wanted error) {
	if !errors.Is(found, wanted) {
		failed("found error %v, wanted %v", found, wanted)
	}
}

// Eventually asks again until it holds: a broker may answer a change before its own copy of the metadata has followed.
// What is asked waits for the broker, so this does not spin.
func Eventually(ctx context.Context, what string, holds func() bool) {
	for !holds() {
		if ctx.Err() != nil {
			failed("never so: %s", what)
			os.Exit(1)
		}
	}
}
