"""Trainings that are compared: arms, their runs, and what comes of them."""
