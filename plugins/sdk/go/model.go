package scorehost

import (
	"errors"
	"strings"

	models "scorehost/internal/generated/scorehost_script_models"
	tensors "scorehost/internal/generated/scorehost_script_tensors"
	types "scorehost/internal/generated/scorehost_script_types"
	memory "scorehost/internal/wit/runtime"
	wit "scorehost/internal/wit/types"
)

// Model is a model of the deployment, opened once for all instances.
type Model struct{ model *models.Model }

func (m *Model) host() closer { return m.model }

// Close frees it before Run returns.
func (m *Model) Close() { m.model.Drop() }

// OpenModel opens a file below the model folder; "" is the folder's only model.
func OpenModel(path string) (*Model, error) {
	given := wit.None[string]()
	if path != "" {
		given = wit.Some(text(path))
	}
	return ask(func() wit.Result[*models.Model, types.Failure] {
		return models.ModelOpen(given)
	}, func(model *models.Model) *Model { return &Model{held(model)} })
}

// Port is an input or an output of a model.
type Port struct {
	Name string
	// Shape holds -1 where a size is free, as a batch dimension is.
	Shape   []int
	Element Element
}

// Inputs is what the model takes.
func (m *Model) Inputs() []Port { return ports(m.model.Inputs) }

// Outputs is what the model gives.
func (m *Model) Outputs() []Port { return ports(m.model.Outputs) }

func ports(call func() []models.Port) []Port {
	memory.Enter()
	defer memory.Leave()
	var all []Port
	for _, port := range call() {
		shape := make([]int, len(port.Shape))
		for i, size := range port.Shape {
			shape[i] = -1
			if size, ok := size.Get(); ok {
				shape[i] = int(size)
			}
		}
		all = append(all, Port{strings.Clone(port.Name), shape, port.Element})
	}
	return all
}

// Predict gives the first output for the only input. A picture without a batch dimension is taken as a batch of one. It
// returns before the result is there.
func (m *Model) Predict(input *Tensor) (*Tensor, error) {
	return ask(func() wit.Result[*tensors.Tensor, types.Failure] { return m.model.Predict(input.tensor) }, heldTensor)
}

// PredictBatches is [Model.Predict] on `size` rows of the input after another, or on all at once for one below 1. It calls
// read with each output, and the row of the input that its first is of, once every batch is handed over: so the device
// never waits for the script. It ends with the first error.
func (m *Model) PredictBatches(input *Tensor, size int, read func(first int, output *Tensor) error) error {
	shape, err := input.Shape()
	if err != nil {
		return err
	}
	if len(shape) == 0 {
		return errors.New("a tensor without rows cannot be cut into batches")
	}
	if size < 1 {
		size = max(shape[0], 1)
	}
	var outputs []*Tensor
	for start := 0; start < shape[0]; start += size {
		batch, err := input.Slice(start, min(size, shape[0]-start))
		if err != nil {
			return err
		}
		output, err := m.Predict(batch)
		if err != nil {
			return err
		}
		outputs = append(outputs, output)
	}
	for i, output := range outputs {
		if err := read(i*size, output); err != nil {
			return err
		}
	}
	return nil
}

// PredictNamed gives every output by name, for inputs by name.
func (m *Model) PredictNamed(inputs map[string]*Tensor) (map[string]*Tensor, error) {
	var given []wit.Tuple2[string, *tensors.Tensor]
	for name, tensor := range inputs {
		given = append(given, wit.Tuple2[string, *tensors.Tensor]{F0: text(name), F1: tensor.tensor})
	}
	return ask(func() wit.Result[[]wit.Tuple2[string, *tensors.Tensor], types.Failure] {
		return m.model.PredictNamed(given)
	}, func(named []wit.Tuple2[string, *tensors.Tensor]) map[string]*Tensor {
		outputs := make(map[string]*Tensor, len(named))
		for _, output := range named {
			outputs[strings.Clone(output.F0)] = heldTensor(output.F1)
		}
		return outputs
	})
}
