// Does what the deployment's tag `scenario` says; tests/languages.rs runs it. Every language has this script, and gives
// the same bytes.
package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"scorehost"
)

type script struct{}

func (script) Init() error { return nil }

func (script) Run(files []string) (*scorehost.Output, error) {
	scenarios := map[string]func([]string) (*scorehost.Output, error){
		"words":             words,
		"cells":             cells,
		"failures":          failures,
		"own-files":         ownFiles,
		"once-more":         onceMore,
		"texts":             texts,
		"rows":              rows,
		"parquet":           parquet,
		"partitions":        partitions,
		"written-once-more": writtenOnceMore,
		"ends-badly":        endsBadly,
	}
	name, _ := scorehost.Setting("scenario")
	scenario, ok := scenarios[name]
	if !ok {
		return nil, fmt.Errorf("there is no scenario `%s`", name)
	}
	return scenario(files)
}

// Ends as the file is called: here and in C, where a language's own runtime has no exceptions to tell of.
func endsBadly(files []string) (*scorehost.Output, error) {
	switch scorehost.FileName(files[0]) {
	case "panic":
		panic("boom")
	case "index":
		return nil, errors.New(files[len(files)])
	case "exit":
		os.Exit(3)
	case "values":
		output := scorehost.NewOutput("file")
		output.Push("one", "too many")
		return output, nil
	}
	return names(files), nil
}

// Several rows a file: its words, and how many characters each has.
func words(files []string) (*scorehost.Output, error) {
	output := scorehost.NewOutput("file", "word", "characters")
	for i, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !utf8.Valid(text) {
			output.Fail(i, "not text")
			continue
		}
		for _, word := range strings.Fields(string(text)) {
			output.Push(scorehost.FileName(file), word, utf8.RuneCountInString(word))
		}
	}
	return output, nil
}

// Cells of every kind, empty ones, and whole numbers among numbers.
func cells(files []string) (*scorehost.Output, error) {
	output := scorehost.NewOutput("file", "whole", "number", "maybe", "flag", "text", "nothing")
	for _, file := range files {
		name := scorehost.FileName(file)
		output.Push(name, 1, 3, nil, true, "plain", nil)
		output.Push(name, -9007199254740993, 0.1, 7, false, "\"quotes\", commas\nand lines", nil)
		output.Push(name, math.MaxInt64, 1e300, nil, nil, "", nil)
	}
	return output, nil
}

// A declared failure of each kind: one that stays, one that passes, one of a file.
func failures(files []string) (*scorehost.Output, error) {
	number, attempt := scorehost.MiniBatch(), scorehost.Attempt()
	switch {
	case number == 1:
		return nil, errors.New("not this one")
	case number == 2 && attempt == 1:
		return nil, scorehost.Transient(errors.New("not yet"))
	case number == 3:
		return nil, scorehost.Transient(errors.New("never"))
	}
	output := scorehost.NewOutput("file", "mini_batch", "attempt")
	for i, file := range files {
		if strings.HasPrefix(scorehost.FileName(file), "bad") {
			output.Fail(i, "it is called bad")
		} else {
			output.Push(scorehost.FileName(file), int(number), attempt)
		}
	}
	return output, nil
}

// A file of JSON lines for each input, in a folder: a line for each of its lines.
func ownFiles(files []string) (*scorehost.Output, error) {
	folder := filepath.Join(os.Getenv("SCOREHOST_OUTPUT_DIR"), "lines")
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var counts strings.Builder
		number := 0
		for line := range strings.Lines(string(text)) {
			number++
			fmt.Fprintf(&counts, "{\"line\": %d, \"words\": %d}\n", number, len(strings.Fields(line)))
		}
		if err := os.WriteFile(filepath.Join(folder, stem(file)+".jsonl"), []byte(counts.String()), 0o666); err != nil {
			return nil, err
		}
	}
	return names(files), nil
}

// Writes a file, named by mini-batch and attempt; the first attempt at each fails, and all attempts at the second.
func onceMore(files []string) (*scorehost.Output, error) {
	number, attempt := scorehost.MiniBatch(), scorehost.Attempt()
	name := fmt.Sprintf("%d.%d.txt", number, attempt)
	if err := os.WriteFile(filepath.Join(os.Getenv("SCOREHOST_OUTPUT_DIR"), name), []byte("written"), 0o666); err != nil {
		return nil, err
	}
	if number == 1 || attempt == 1 {
		return nil, scorehost.Transient(errors.New("once more"))
	}
	return names(files), nil
}

// A row for each text of a table, and how many characters it has.
func texts(files []string) (*scorehost.Output, error) {
	output := scorehost.NewOutput("file", "text", "characters")
	for _, file := range files {
		table, err := scorehost.OpenTable(file)
		if err != nil {
			return nil, err
		}
		err = batches(table, func(batch *scorehost.Batch) error {
			column, err := batch.Column("text")
			if err != nil {
				return err
			}
			for row := range batch.Rows() {
				if text, ok := value(column, row).(string); ok {
					output.Push(scorehost.FileName(file), text, utf8.RuneCountInString(text))
				} else {
					output.Push(scorehost.FileName(file), nil, nil)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return output, nil
}

// batches calls each with all that a table holds, two rows at a time.
func batches(table *scorehost.Table, each func(*scorehost.Batch) error) error {
	for {
		batch, err := table.Next(2)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = each(batch)
		}
		if err != nil {
			return err
		}
	}
}

// value is a cell; nil is an empty one.
func value(column scorehost.Column, row int) any {
	if slices.Contains(column.Nulls, uint32(row)) {
		return nil
	}
	switch values := column.Values.(type) {
	case []bool:
		return values[row]
	case []int64:
		return values[row]
	case []float64:
		return values[row]
	default:
		return column.Values.([]string)[row]
	}
}

// scored calls each with the records of a table and a prediction for each, some at a time, column by column.
func scored(file string, each func(columns []scorehost.Column) error) error {
	model, err := scorehost.OpenModel("")
	if err != nil {
		return err
	}
	table, err := scorehost.OpenTable(file)
	if err != nil {
		return err
	}
	return batches(table, func(batch *scorehost.Batch) error {
		columns, err := batch.Columns()
		if err != nil {
			return err
		}
		numbers, err := batch.Tensor("height", "width")
		if err != nil {
			return err
		}
		predictions, err := model.Predict(numbers)
		if err != nil {
			return err
		}
		floats, err := predictions.Floats()
		if err != nil {
			return err
		}
		values := make([]float64, len(floats))
		for i, float := range floats {
			values[i] = float64(float)
		}
		return each(append(columns, scorehost.Column{Name: "prediction", Values: values}))
	})
}

// Each record of the tables, with its file and its prediction.
func rows(files []string) (*scorehost.Output, error) {
	var output *scorehost.Output
	for _, file := range files {
		err := scored(file, func(columns []scorehost.Column) error {
			if output == nil {
				names := []string{"file"}
				for _, column := range columns {
					names = append(names, column.Name)
				}
				output = scorehost.NewOutput(names...)
			}
			for row := range columns[len(columns)-1].Values.([]float64) {
				cells := []any{scorehost.FileName(file)}
				for _, column := range columns {
					cells = append(cells, value(column, row))
				}
				output.Push(cells...)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return output, nil
}

// A Parquet file for each table: its records with their predictions.
func parquet(files []string) (*scorehost.Output, error) {
	for _, file := range files {
		writer, err := scorehost.CreateTable(stem(file) + ".parquet")
		if err != nil {
			return nil, err
		}
		if err := scored(file, writer.Write); err != nil {
			return nil, err
		}
		if err := writer.Finish(); err != nil {
			return nil, err
		}
	}
	return names(files), nil
}

// A file for each class and mini-batch, in folders of classes.
func partitions(files []string) (*scorehost.Output, error) {
	classes := map[string]*scorehost.Output{}
	for _, file := range files {
		err := scored(file, func(columns []scorehost.Column) error {
			id := columns[slices.IndexFunc(columns, func(c scorehost.Column) bool { return c.Name == "id" })]
			for row, prediction := range columns[len(columns)-1].Values.([]float64) {
				name := "low"
				if prediction >= 3 {
					name = "high"
				}
				if classes[name] == nil {
					classes[name] = scorehost.NewOutput("id", "prediction")
				}
				classes[name].Push(value(id, row), prediction)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for name, members := range classes {
		columns, err := members.Columns()
		if err != nil {
			return nil, err
		}
		if err := write(fmt.Sprintf("class=%s/part-%d.csv", name, scorehost.MiniBatch()), columns, true); err != nil {
			return nil, err
		}
	}
	return names(files), nil
}

// As onceMore, with files that the host writes; one of them is never finished.
func writtenOnceMore(files []string) (*scorehost.Output, error) {
	number, attempt := scorehost.MiniBatch(), scorehost.Attempt()
	columns := []scorehost.Column{{Name: "attempt", Values: []int64{int64(attempt)}}}
	if err := write(fmt.Sprintf("%d.%d.jsonl", number, attempt), columns, true); err != nil {
		return nil, err
	}
	if err := write(fmt.Sprintf("%d.%d.open.jsonl", number, attempt), columns, false); err != nil {
		return nil, err
	}
	if number == 1 || attempt == 1 {
		return nil, scorehost.Transient(errors.New("once more"))
	}
	return names(files), nil
}

func write(name string, columns []scorehost.Column, finished bool) error {
	writer, err := scorehost.CreateTable(name)
	if err != nil {
		return err
	}
	if err := writer.Write(columns); err != nil || !finished {
		return err
	}
	return writer.Finish()
}

func stem(file string) string {
	name := scorehost.FileName(file)
	return strings.TrimSuffix(name, filepath.Ext(name))
}

// The files' names alone: a row each, of which a job counts and drops the rows.
func names(files []string) *scorehost.Output {
	output := scorehost.NewOutput("file")
	for _, file := range files {
		output.Push(scorehost.FileName(file))
	}
	return output
}

func init() { scorehost.Register(script{}) }
func main() {}
