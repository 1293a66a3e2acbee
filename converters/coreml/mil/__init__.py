"""A reader and an executor of ML Programs that run on any operating system.

``package`` reads a saved ``.mlpackage`` (no torch); ``program.MilProgram`` runs it.
"""
