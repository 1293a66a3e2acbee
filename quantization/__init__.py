"""Quantization: ranges and precisions; knows layers, knows no format."""
