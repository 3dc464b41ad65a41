package wit_runtime

// Handle is the script's side of a thing that the host holds. Zero is no thing.
type Handle struct {
	value int32
}

// MakeHandle is a handle that the host gave.
func MakeHandle(value int32) *Handle { return &Handle{value} }

// Use is the handle for a call of the host.
func (h *Handle) Use() int32 {
	if h.value == 0 {
		panic("this tensor, image, recipe, model or table is closed; what Run makes is closed when it returns, unless Keep was called")
	}
	return h.value
}

// Take is the handle, which is no longer this one's to use.
func (h *Handle) Take() int32 {
	value := h.Use()
	h.value = 0
	return value
}

// TakeOrNil is as Take, but zero where there is none.
func (h *Handle) TakeOrNil() int32 {
	value := h.value
	h.value = 0
	return value
}

// Set gives back a handle that was taken.
func (h *Handle) Set(value int32) { h.value = value }
