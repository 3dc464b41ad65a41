package scorehost

import (
	"fmt"
	"io"
	"slices"
	"strings"

	tables "scorehost/internal/generated/scorehost_script_tables"
	tensors "scorehost/internal/generated/scorehost_script_tensors"
	types "scorehost/internal/generated/scorehost_script_types"
	memory "scorehost/internal/wit/runtime"
	wit "scorehost/internal/wit/types"
)

// Column is one column of a table or of an output.
type Column struct {
	Name string
	// Values is []bool, []int64, []float64 or []string.
	Values any
	// Nulls is the rows, ascending, whose cell is empty; their value says nothing.
	Nulls []uint32
}

// Kind is the type of a table's column.
type Kind = tables.Kind

const (
	BooleanKind = tables.KindBoolean
	IntegerKind = tables.KindInteger
	NumberKind  = tables.KindNumber
	TextKind    = tables.KindText
)

// Field is the name and type of a table's column.
type Field = tables.Field

// Table is a CSV or Parquet file of the mini-batch, read once from its beginning to its end.
type Table struct{ table *tables.Table }

func (t *Table) host() closer { return t.table }

// Close frees it before Run returns.
func (t *Table) Close() { t.table.Drop() }

// OpenTable reads the header.
func OpenTable(file string) (*Table, error) {
	return ask(func() wit.Result[*tables.Table, types.Failure] {
		return tables.TableOpen(text(file))
	}, func(table *tables.Table) *Table { return &Table{held(table)} })
}

// Fields is the columns that there are.
func (t *Table) Fields() []Field {
	memory.Enter()
	defer memory.Leave()
	fields := t.table.Fields()
	for i := range fields {
		fields[i].Name = strings.Clone(fields[i].Name)
	}
	return fields
}

// Next is the next rows, at most this many; at the end, [io.EOF].
func (t *Table) Next(rows int) (*Batch, error) {
	batch, err := ask(func() wit.Result[wit.Option[*tables.Batch], types.Failure] {
		return t.table.Next(uint32(rows))
	}, func(next wit.Option[*tables.Batch]) *Batch {
		if batch, ok := next.Get(); ok {
			return &Batch{held(batch)}
		}
		return nil
	})
	if err == nil && batch == nil {
		err = io.EOF
	}
	return batch, err
}

// Batch is some rows of a table, held by the host.
type Batch struct{ batch *tables.Batch }

func (b *Batch) host() closer { return b.batch }

// Close frees it before Run returns.
func (b *Batch) Close() { b.batch.Drop() }

// Rows is how many there are.
func (b *Batch) Rows() int { return int(b.batch.Rows()) }

// Columns is every column, in the table's order.
func (b *Batch) Columns() ([]Column, error) {
	return ask(b.batch.Columns, func(given []types.Column) []Column {
		columns := make([]Column, len(given))
		for i, column := range given {
			columns[i] = columnOf(column)
		}
		return columns
	})
}

// Column is one column, by name.
func (b *Batch) Column(name string) (Column, error) {
	return ask(func() wit.Result[types.Column, types.Failure] { return b.batch.Column(text(name)) }, columnOf)
}

// Tensor is these columns as floats, rows × columns: booleans are 0 and 1, an empty cell is NaN. Fails for texts.
func (b *Batch) Tensor(columns ...string) (*Tensor, error) {
	return ask(func() wit.Result[*tensors.Tensor, types.Failure] { return b.batch.Tensor(columns) }, heldTensor)
}

// Writer is a table that the script writes below its output folder, where the deployment gives it one.
type Writer struct{ writer *tables.Writer }

func (w *Writer) host() closer { return w.writer }

// Close gives it up, if it is not finished: the file will not be there.
func (w *Writer) Close() { w.writer.Drop() }

// CreateTable begins a file: .csv, .jsonl or .parquet, as the name ends; folders on the way are made.
func CreateTable(file string) (*Writer, error) {
	return ask(func() wit.Result[*tables.Writer, types.Failure] {
		return tables.WriterCreate(text(file))
	}, func(writer *tables.Writer) *Writer { return &Writer{held(writer)} })
}

// Write adds rows: columns of one length, with the names and types of the first. [Output.Columns] makes them of rows.
func (w *Writer) Write(columns []Column) error {
	_, err := ask(func() wit.Result[wit.Unit, types.Failure] { return w.writer.Write(contractColumns(columns)) }, nothing)
	return err
}

// Finish makes the file complete; without it, or after a failure, it is not there.
func (w *Writer) Finish() error {
	_, err := ask(w.writer.Finish, nothing)
	return err
}

func nothing(unit wit.Unit) wit.Unit { return unit }

func columnOf(given types.Column) Column {
	column := Column{Name: strings.Clone(given.Name), Nulls: slices.Clone(given.Nulls)}
	switch given.Cells.Tag() {
	case types.CellsBooleans:
		column.Values = slices.Clone(given.Cells.Booleans())
	case types.CellsIntegers:
		column.Values = slices.Clone(given.Cells.Integers())
	case types.CellsNumbers:
		column.Values = slices.Clone(given.Cells.Numbers())
	default:
		texts := given.Cells.Texts()
		for i := range texts {
			texts[i] = strings.Clone(texts[i])
		}
		column.Values = texts
	}
	return column
}

func contractColumns(columns []Column) []types.Column {
	given := make([]types.Column, len(columns))
	for i, column := range columns {
		given[i] = types.Column{Name: text(column.Name), Nulls: column.Nulls}
		switch values := column.Values.(type) {
		case []bool:
			given[i].Cells = types.MakeCellsBooleans(values)
		case []int64:
			given[i].Cells = types.MakeCellsIntegers(values)
		case []float64:
			given[i].Cells = types.MakeCellsNumbers(values)
		case []string:
			texts := make([]string, len(values))
			for row, value := range values {
				texts[row] = text(value)
			}
			given[i].Cells = types.MakeCellsTexts(texts)
		default:
			panic(fmt.Sprintf("column `%s` holds %T; it must be []bool, []int64, []float64 or []string", column.Name, values))
		}
	}
	return given
}
