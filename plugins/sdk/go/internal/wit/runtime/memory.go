// Package wit_runtime gives the generated bindings memory and handles.
//
// The host writes what a call returns into memory that it asks cabi_realloc for, in the middle of that call. Nothing of
// the host may be called then, and Go's collector would: it reads the clock, and may run other goroutines. So that
// memory is not the collector's: it comes from the runtime's break, in chunks that are used again. What lies there is
// valid until the last Enter has been left; whoever calls the host copies it before.
package wit_runtime

import (
	"runtime"
	"unsafe"
)

// The runtime's own way to grow memory. It is linked by name, which the linker allows with -checklinkname=0.
//
//go:linkname sbrk runtime.sbrk
func sbrk(size uintptr) unsafe.Pointer

// Ends the instance at once, as WebAssembly's `unreachable` does.
//
//go:linkname abort runtime.abort
func abort()

// chunk heads a piece of memory that the host's results are written to.
type chunk struct {
	next *chunk
	size uintptr
}

const (
	headSize  = unsafe.Sizeof(chunk{})
	chunkSize = 256 << 10
	// No result of the host is larger than what 32 bits address.
	largest = 1 << 31
)

var (
	first, current *chunk
	// What of the current chunk is used.
	used uintptr
	// How many calls of the host have results that are not copied yet.
	entered int
	// Before packages are initialised, the adapter of WASI asks for the memory that it keeps.
	ready bool
)

func init() { ready = true }

// Enter is to be called before a function of the host whose result is more than numbers.
func Enter() { entered++ }

// Leave is to be called when that result is copied.
func Leave() {
	entered--
	if entered == 0 {
		current, used = first, headSize
	}
}

//go:wasmexport cabi_realloc
//go:nosplit
func cabiRealloc(old unsafe.Pointer, oldSize, align, size uintptr) unsafe.Pointer {
	if old != nil || oldSize != 0 || size > largest {
		// The contract has no strings that change their encoding, the only reason to ask for another size.
		abort()
	}
	if !ready {
		return grow(size)
	}
	for {
		if current != nil {
			if start := (used + align - 1) &^ (align - 1); start+size <= current.size {
				used = start + size
				return unsafe.Add(unsafe.Pointer(current), start)
			}
			if current.next != nil {
				current, used = current.next, headSize
				continue
			}
		}
		room := max(headSize+align+size, chunkSize)
		fresh := (*chunk)(grow(room))
		*fresh = chunk{size: room}
		if current == nil {
			first = fresh
		} else {
			current.next = fresh
		}
		current, used = fresh, headSize
	}
}

// grow gives memory that is never given back. If there is none, the host has ended the instance already, with the limit
// that was met.
//
//go:nosplit
func grow(size uintptr) unsafe.Pointer {
	memory := sbrk(size)
	if memory == nil {
		abort()
	}
	return memory
}

// Allocate gives zeroed memory to write arguments and results to, which stays where it is until the pinner lets go.
func Allocate(pinner *runtime.Pinner, size, align uintptr) unsafe.Pointer {
	if size == 0 {
		return nil
	}
	// Words of eight bytes are aligned for everything that WIT knows.
	memory := unsafe.Pointer(unsafe.SliceData(make([]uint64, (size+7)/8)))
	pinner.Pin(memory)
	return memory
}

// Unpin is called by the generated code when arguments have been read. They are copied later, and Leave is called then.
func Unpin() {}

// Abort ends the instance as a trap; what was printed to stderr last is the reason that is reported.
func Abort() { abort() }
