"""Mistakes that engineers make between a checkpoint and a file, planted into real files; see ``planted_faults.py``."""
