package scorehost

import (
	"errors"
	"strings"

	types "scorehost/internal/generated/scorehost_script_types"
	memory "scorehost/internal/wit/runtime"
	wit "scorehost/internal/wit/types"
)

// failure is an error that says whether another attempt may succeed.
type failure struct {
	error
	isTransient bool
}

func (f failure) Unwrap() error { return f.error }

// Transient marks an error as worth another attempt. Every other error that Run returns fails its mini-batch for good.
func Transient(err error) error { return failure{err, true} }

// IsTransient tells whether an error is worth another attempt: one that [Transient] marked, or the host's own.
func IsTransient(err error) bool {
	var marked failure
	return errors.As(err, &marked) && marked.isTransient
}

func failureOf(err error) types.Failure {
	if IsTransient(err) {
		return types.MakeFailureTransient(text(err.Error()))
	}
	return types.MakeFailurePermanent(text(err.Error()))
}

// text is what may cross to the host: Go's strings may hold any bytes, the contract's are UTF-8.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// ask calls the host. What the call gives lies in memory that the next one uses again: `own` copies it.
func ask[T, U any](call func() wit.Result[T, types.Failure], own func(T) U) (U, error) {
	memory.Enter()
	defer memory.Leave()
	result := call()
	if result.Tag() == wit.ResultOk {
		return own(result.Ok()), nil
	}
	var none U
	given := result.Err()
	if given.Tag() == types.FailureTransient {
		return none, failure{errors.New(strings.Clone(given.Transient())), true}
	}
	return none, failure{errors.New(strings.Clone(given.Permanent())), false}
}
