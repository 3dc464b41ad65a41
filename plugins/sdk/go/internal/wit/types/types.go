// Package wit_types holds the WIT types that the generated bindings use and Go has no word for.
package wit_types

const (
	ResultOk  = 0
	ResultErr = 1
)

// Result is a value, or why there is none.
type Result[T, E any] struct {
	isErr bool
	ok    T
	err   E
}

// Ok is a result with a value.
func Ok[T, E any](value T) Result[T, E] { return Result[T, E]{ok: value} }

// Err is a result without one.
func Err[T, E any](err E) Result[T, E] { return Result[T, E]{isErr: true, err: err} }

// Tag tells which of the two it is.
func (r Result[T, E]) Tag() uint8 {
	if r.isErr {
		return ResultErr
	}
	return ResultOk
}

// Ok is the value, or a zero one.
func (r Result[T, E]) Ok() T { return r.ok }

// Err is the error, or a zero one.
func (r Result[T, E]) Err() E { return r.err }

const (
	OptionNone = 0
	OptionSome = 1
)

// Option is a value that may be absent.
type Option[T any] struct {
	isSome bool
	value  T
}

// Some is a value that is there.
func Some[T any](value T) Option[T] { return Option[T]{isSome: true, value: value} }

// None is a value that is not.
func None[T any]() Option[T] { return Option[T]{} }

// Tag tells which of the two it is.
func (o Option[T]) Tag() uint8 {
	if o.isSome {
		return OptionSome
	}
	return OptionNone
}

// Some is the value, or a zero one.
func (o Option[T]) Some() T { return o.value }

// Get is the value, and whether it is there.
func (o Option[T]) Get() (T, bool) { return o.value, o.isSome }

// Tuple2 is a pair.
type Tuple2[A, B any] struct {
	F0 A
	F1 B
}

// Tuple3 is a triple.
type Tuple3[A, B, C any] struct {
	F0 A
	F1 B
	F2 C
}

// Unit is nothing.
type Unit struct{}
