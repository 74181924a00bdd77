"""What a model costs: time, memory and energy of its steps, against the dense transformer."""
