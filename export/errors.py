"""Errors of an export.

ExportError (RuntimeError)
|- CheckpointError (also ValueError)     the checkpoint cannot be found, read, or lacks a file that serving needs
|- UnsupportedError (also ValueError)   a family, class or option that Sonant does not export; the message names it
|- BuildError                           a plan could not be built, or does not prove itself
|- AuditError                           the traced graph has an operator or a fixed size that it must not have
`- ParityError                          the graph does not compute what transformers computes
"""


class ExportError(RuntimeError):
    """An export failed; nothing was written."""


class CheckpointError(ExportError, ValueError):
    """The checkpoint cannot be found or read, or lacks a file."""


class UnsupportedError(ExportError, ValueError):
    """Sonant does not export this."""


class BuildError(ExportError):
    """A TensorRT plan was not built; the engine is as it was."""


class AuditError(ExportError):
    """The traced graph is not what an engine may hold."""


class ParityError(ExportError):
    """The graph's outputs differ from those of transformers by more than the bound."""
