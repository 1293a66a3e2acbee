"""Broken Core ML packages, planted one fault at a time, and what ``verify`` makes of them."""
