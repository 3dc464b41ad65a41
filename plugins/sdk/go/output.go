package scorehost

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Columns is the names of an output's columns.
type Columns = []string

// Row is one value per column: a bool, a whole number, a float, a string, or nil for an empty cell.
type Row = []any

// Output is the rows of one mini-batch, and its failed files.
type Output struct {
	names  []string
	cells  [][]any
	failed []FailedFile
	err    error
}

// NewOutput has no rows yet.
func NewOutput(columns ...string) *Output {
	return &Output{names: columns, cells: make([][]any, len(columns))}
}

// ByFile calls score on each file; its row is kept, an error fails that file alone, and a transient one ends the
// mini-batch, so that the host tries it again.
func ByFile(files []string, columns Columns, score func(file string) (Row, error)) (*Output, error) {
	return ByFileAhead(files, columns, score, func(_ string, row Row) (Row, error) { return row, nil })
}

// ByFileAhead is [ByFile] in two steps: start is called on every file before the first finish reads what it gave. What a
// model computes goes on meanwhile, so that a script which scores file by file does not keep the device waiting.
func ByFileAhead[T any](
	files []string, columns Columns, start func(file string) (T, error), finish func(file string, started T) (Row, error),
) (*Output, error) {
	output := NewOutput(columns...)
	started := make([]T, len(files))
	errs := make([]error, len(files))
	for i, file := range files {
		started[i], errs[i] = start(file)
	}
	for i, file := range files {
		var row Row
		err := errs[i]
		if err == nil {
			row, err = finish(file, started[i])
		}
		switch {
		case err == nil:
			output.Push(row...)
		case IsTransient(err):
			return nil, err
		default:
			output.Fail(i, err.Error())
		}
	}
	return output, nil
}

// Push adds a row of one value per column; other numbers of values, and other types, fail the mini-batch.
func (o *Output) Push(row ...any) {
	if len(row) != len(o.names) && o.err == nil {
		o.err = fmt.Errorf("a row has %d values, and the output %d columns", len(row), len(o.names))
	}
	if o.err != nil {
		return
	}
	for i, value := range row {
		cell, ok := plain(value)
		if !ok {
			o.err = fmt.Errorf("column `%s` cannot hold %T", o.names[i], value)
			return
		}
		o.cells[i] = append(o.cells[i], cell)
	}
}

// Fail notes that the file at this index of the mini-batch gave no row.
func (o *Output) Fail(index int, reason string) {
	o.failed = append(o.failed, FailedFile{Index: uint32(index), Reason: text(reason)})
}

// FailAll notes each of these, as [LoadImages] returns them.
func (o *Output) FailAll(failed []FailedFile) { o.failed = append(o.failed, failed...) }

// Columns is the rows as typed columns, as [Writer.Write] takes them: whole numbers among numbers become numbers; other
// mixtures are refused.
func (o *Output) Columns() ([]Column, error) {
	if o.err != nil {
		return nil, o.err
	}
	columns := make([]Column, len(o.names))
	for i, name := range o.names {
		column, err := typed(name, o.cells[i])
		if err != nil {
			return nil, err
		}
		columns[i] = column
	}
	return columns, nil
}

// plain is the value as bool, int64, float64, string or nil.
func plain(value any) (any, bool) {
	switch value := value.(type) {
	case nil, bool, int64, float64, string:
		return value, true
	case int:
		return int64(value), true
	case int32:
		return int64(value), true
	case int16:
		return int64(value), true
	case int8:
		return int64(value), true
	case uint8:
		return int64(value), true
	case uint16:
		return int64(value), true
	case uint32:
		return int64(value), true
	case float32:
		// The double whose shortest decimal form is the float's, so that 0.1 is written `0.1`, as numpy writes it.
		number, err := strconv.ParseFloat(strconv.FormatFloat(float64(value), 'g', -1, 32), 64)
		return number, err == nil
	default:
		return nil, false
	}
}

func typed(name string, cells []any) (Column, error) {
	column := Column{Name: name}
	kinds := map[string]bool{}
	for row, cell := range cells {
		switch cell.(type) {
		case nil:
			column.Nulls = append(column.Nulls, uint32(row))
		case bool:
			kinds["booleans"] = true
		case int64:
			kinds["integers"] = true
		case float64:
			kinds["numbers"] = true
		case string:
			kinds["texts"] = true
		}
	}
	switch {
	case len(kinds) == 0 || len(kinds) == 1 && kinds["integers"]:
		column.Values = values[int64](cells)
	case len(kinds) == 1 && kinds["booleans"]:
		column.Values = values[bool](cells)
	case len(kinds) == 1 && kinds["texts"]:
		column.Values = values[string](cells)
	case len(kinds) == 1 || len(kinds) == 2 && kinds["integers"] && kinds["numbers"]:
		column.Values = numbers(cells)
	default:
		var found []string
		for kind := range kinds {
			found = append(found, kind)
		}
		slices.Sort(found)
		return column, fmt.Errorf("column `%s` mixes %s", name, strings.Join(found, " and "))
	}
	return column, nil
}

func values[T any](cells []any) []T {
	all := make([]T, len(cells))
	for i, cell := range cells {
		all[i], _ = cell.(T)
	}
	return all
}

func numbers(cells []any) []float64 {
	all := make([]float64, len(cells))
	for i, cell := range cells {
		switch cell := cell.(type) {
		case int64:
			all[i] = float64(cell)
		case float64:
			all[i] = cell
		}
	}
	return all
}
