// Package scorehost is for writing a Scorehost scoring script in Go: a type with Init and Run.
//
//	package main
//
//	import "scorehost"
//
//	type script struct {
//		model  *scorehost.Model
//		recipe *scorehost.Recipe
//	}
//
//	func (s *script) Init() (err error) {
//		if s.model, err = scorehost.OpenModel(""); err == nil {
//			s.recipe, err = scorehost.RecipeFor(s.model)
//		}
//		return err
//	}
//
//	func (s *script) Run(files []string) (*scorehost.Output, error) {
//		return scorehost.ByFile(files, scorehost.Columns{"file", "class"}, func(file string) (scorehost.Row, error) {
//			// …
//		})
//	}
//
//	func init() { scorehost.Register(&script{}) }
//	func main() {}
//
// Tensors, images and the like live on the host. What Init makes lives as long as the script; what Run makes is closed
// when Run returns, unless [Keep] was called, or earlier by its Close. A panic ends the instance, and its text is in the
// mini-batch's error; the next attempt begins with Init on a fresh one. Goroutines take turns on one thread, and stand
// still while no call is in progress.
package scorehost

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	types "scorehost/internal/generated/scorehost_script_types"
	_ "scorehost/internal/generated/wit_exports"
	exports "scorehost/internal/script/export_scorehost_script_script"
	memory "scorehost/internal/wit/runtime"
	wit "scorehost/internal/wit/types"
)

// Script is what an author writes.
type Script interface {
	// Init is called once per instance, before its first mini-batch.
	Init() error
	// Run is called once per mini-batch, with the paths of its files, as [os.Open] takes them.
	Run(files []string) (*Output, error)
}

// Register names the script; call it in func init of package main, once.
func Register(script Script) {
	if registered != nil {
		panic("scorehost.Register was called twice")
	}
	registered = script
}

var registered Script

// Deeper recursion than this many bytes ends the script with a text that says so, before it takes all memory.
const maxStack = 64 << 20

func init() {
	debug.SetMaxStack(maxStack)
	exports.Init = start
	exports.Run = run
}

func start() (result wit.Result[wit.Unit, types.Failure]) {
	defer trapPanic()
	if registered == nil {
		return wit.Err[wit.Unit](types.MakeFailurePermanent("no script is registered: call scorehost.Register in an init function of package main"))
	}
	if err := registered.Init(); err != nil {
		return wit.Err[wit.Unit](failureOf(err))
	}
	kept = len(made)
	return wit.Ok[wit.Unit, types.Failure](wit.Unit{})
}

func run(given []string) wit.Result[types.Output, types.Failure] {
	defer trapPanic()
	defer closeMade()
	memory.Enter()
	files := make([]string, len(given))
	for i, file := range given {
		files[i] = strings.Clone(file)
	}
	memory.Leave()
	output, err := registered.Run(files)
	if err == nil && output == nil {
		output = NewOutput()
	}
	if err != nil {
		return wit.Err[types.Output](failureOf(err))
	}
	columns, err := output.Columns()
	if err != nil {
		return wit.Err[types.Output](failureOf(err))
	}
	return wit.Ok[types.Output, types.Failure](types.Output{Columns: contractColumns(columns), Failed: output.failed})
}

// trapPanic prints a panic and ends the instance; the host reports what follows `panicked at`.
func trapPanic() {
	reason := recover()
	if reason == nil {
		return
	}
	fmt.Fprintf(os.Stderr, "%s\npanicked at %s: %v\n", debug.Stack(), panicPlace(), reason)
	memory.Abort()
}

// panicPlace is the file and line that panicked: the first frame below the runtime's own.
func panicPlace() string {
	callers := make([]uintptr, 64)
	frames := runtime.CallersFrames(callers[:runtime.Callers(0, callers)])
	for inPanic := false; ; {
		frame, more := frames.Next()
		isRuntime := strings.HasPrefix(frame.Function, "runtime.")
		if inPanic && !isRuntime {
			return fmt.Sprintf("%s:%d", frame.File, frame.Line)
		}
		inPanic = inPanic || frame.Function == "runtime.gopanic"
		if !more {
			return "an unknown place"
		}
	}
}

// closer is a thing of the host's that the script holds.
type closer interface{ Drop() }

var (
	// What is held, things that outlive Run first.
	made []closer
	kept int
)

// held notes a thing, so that it is closed when Run returns.
func held[T closer](thing T) T {
	made = append(made, thing)
	return thing
}

func closeMade() {
	for _, thing := range made[kept:] {
		thing.Drop()
	}
	clear(made[kept:])
	made = made[:kept]
}

// Keep lets a tensor, image, recipe or model that Run made live on when Run returns: as long as the script, or until it
// is closed. What Init made need not be kept.
func Keep[T interface{ host() closer }](thing T) T {
	wanted := thing.host()
	for i := len(made) - 1; i >= kept; i-- {
		if made[i] == wanted {
			made[i], made[kept] = made[kept], made[i]
			kept++
			break
		}
	}
	return thing
}
