"""Networks: what trains and what ships of it, their blocks and presets."""
