package scorehost

import (
	"errors"
	"slices"

	tensors "scorehost/internal/generated/scorehost_script_tensors"
	types "scorehost/internal/generated/scorehost_script_types"
	wit "scorehost/internal/wit/types"
)

// Element is the type of a tensor's numbers.
type Element = tensors.Element

const (
	UnsignedByte = tensors.ElementUnsignedByte
	Integer      = tensors.ElementInteger
	Float        = tensors.ElementFloat
)

// Tensor lives on the host or on its GPU. It may stand for a result that is still being computed: what reads data waits
// for it, and returns its failure.
type Tensor struct{ tensor *tensors.Tensor }

func (t *Tensor) host() closer { return t.tensor }

// Close frees it before Run returns.
func (t *Tensor) Close() { t.tensor.Drop() }

func heldTensor(tensor *tensors.Tensor) *Tensor { return &Tensor{held(tensor)} }

// NewTensor makes one of row-major data; its length must be the product of the shape.
func NewTensor[T float32 | uint8 | int64](shape []int, data []T) (*Tensor, error) {
	sizes := make([]uint32, len(shape))
	for i, size := range shape {
		sizes[i] = uint32(size)
	}
	return ask(func() wit.Result[*tensors.Tensor, types.Failure] {
		switch data := any(data).(type) {
		case []float32:
			return tensors.TensorFromFloats(sizes, data)
		case []uint8:
			return tensors.TensorFromBytes(sizes, data)
		default:
			return tensors.TensorFromIntegers(sizes, any(data).([]int64))
		}
	}, heldTensor)
}

// Shape is the size of each dimension, outermost first.
func (t *Tensor) Shape() ([]int, error) {
	return ask(t.tensor.Shape, func(sizes []uint32) []int {
		shape := make([]int, len(sizes))
		for i, size := range sizes {
			shape[i] = int(size)
		}
		return shape
	})
}

// Element is the type of its numbers.
func (t *Tensor) Element() (Element, error) {
	return ask(t.tensor.Element, func(element Element) Element { return element })
}

// Floats is all of the data, row-major.
func (t *Tensor) Floats() ([]float32, error) { return ask(t.tensor.Floats, slices.Clone[[]float32]) }

// Integers is all of the data, row-major; fails for floats.
func (t *Tensor) Integers() ([]int64, error) { return ask(t.tensor.Integers, slices.Clone[[]int64]) }

// Slice is rows start to start + count along the first dimension; a view, not a copy.
func (t *Tensor) Slice(start, count int) (*Tensor, error) {
	return ask(func() wit.Result[*tensors.Tensor, types.Failure] {
		return t.tensor.Slice(uint32(start), uint32(count))
	}, heldTensor)
}

// Softmax is along the last dimension.
func (t *Tensor) Softmax() *Tensor { return heldTensor(t.tensor.Softmax()) }

// Entry is an entry of a row, by its place in it.
type Entry struct {
	Index int
	Score float32
}

// Top is, for each row, the `count` largest entries of the last dimension, largest first; of equal ones, the lower index.
func (t *Tensor) Top(count int) ([][]Entry, error) {
	return ask(func() wit.Result[tensors.Largest, types.Failure] {
		return t.tensor.Top(uint32(count))
	}, func(largest tensors.Largest) [][]Entry {
		entries := make([]Entry, len(largest.Indices))
		for i := range entries {
			entries[i] = Entry{int(largest.Indices[i]), largest.Scores[i]}
		}
		if largest.Width == 0 {
			return nil
		}
		return slices.Collect(slices.Chunk(entries, int(largest.Width)))
	})
}

// BestOfRows is the largest entry of each row.
func (t *Tensor) BestOfRows() ([]Entry, error) {
	rows, err := t.Top(1)
	return slices.Concat(rows...), err
}

// Best is the largest entry of the first row, as index and score.
func (t *Tensor) Best() (int, float32, error) {
	rows, err := t.BestOfRows()
	if err == nil && len(rows) == 0 {
		err = errors.New("the model gave no scores")
	}
	if err != nil {
		return 0, 0, err
	}
	return rows[0].Index, rows[0].Score, nil
}

// Stack joins tensors of one shape along a new first dimension.
func Stack(parts ...*Tensor) (*Tensor, error) { return joined(tensors.Stack, parts) }

// Concatenate joins tensors along their first dimension.
func Concatenate(parts ...*Tensor) (*Tensor, error) { return joined(tensors.Concatenate, parts) }

func joined(join func([]*tensors.Tensor) wit.Result[*tensors.Tensor, types.Failure], parts []*Tensor) (*Tensor, error) {
	given := make([]*tensors.Tensor, len(parts))
	for i, part := range parts {
		given[i] = part.tensor
	}
	return ask(func() wit.Result[*tensors.Tensor, types.Failure] { return join(given) }, heldTensor)
}
