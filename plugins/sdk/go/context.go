package scorehost

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	context "scorehost/internal/generated/scorehost_script_context"
	log "scorehost/internal/generated/scorehost_script_log"
	memory "scorehost/internal/wit/runtime"
)

// FileName is the last part of a path: `cat.jpg` for `/input/pets/cat.jpg`.
func FileName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// Job is the job's name.
func Job() string { return copied(context.Job) }

// Deployment is the deployment's name.
func Deployment() string { return copied(context.Deployment) }

// MiniBatch is the mini-batch's index in the job.
func MiniBatch() uint64 { return context.MiniBatch() }

// Attempt is 1 for the first attempt of a mini-batch.
func Attempt() int { return int(context.Attempt()) }

// Remaining is the time until this call is stopped.
func Remaining() time.Duration { return time.Duration(context.RemainingMs()) * time.Millisecond }

// Retire ends this instance after the current call, which keeps its result.
func Retire() { context.Retire() }

// Setting is the deployment's tag of that name, and whether there is one.
func Setting(key string) (string, bool) {
	memory.Enter()
	defer memory.Leave()
	value, ok := context.Setting(text(key)).Get()
	return strings.Clone(value), ok
}

// SettingOr is the deployment's tag of that name as a number, or `otherwise` where there is none.
func SettingOr[T int | float64](key string, otherwise T) (T, error) {
	value, ok := Setting(key)
	if !ok {
		return otherwise, nil
	}
	var number T
	var err error
	switch place := any(&number).(type) {
	case *int:
		*place, err = strconv.Atoi(value)
	case *float64:
		*place, err = strconv.ParseFloat(value, 64)
	}
	if err != nil {
		return otherwise, fmt.Errorf("setting `%s` is `%s`, which is not a number", key, value)
	}
	return number, nil
}

// Level is how important a line of the log is.
type Level = log.Level

const (
	Debug   = log.LevelDebug
	Info    = log.LevelInfo
	Warning = log.LevelWarning
	Error   = log.LevelError
)

// Log writes a line to the mini-batch's log, if the deployment's logging_level lets it through. What is printed is there
// too.
func Log(level Level, format string, values ...any) {
	log.Write(level, text(fmt.Sprintf(format, values...)))
}

func copied(call func() string) string {
	memory.Enter()
	defer memory.Leave()
	return strings.Clone(call())
}
