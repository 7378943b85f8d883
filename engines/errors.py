"""Errors of engine folders.

EngineError (RuntimeError)
|- EngineNotFoundError (also FileNotFoundError)   no engine there, or a file of it is missing
|- EngineInvalidError (also ValueError)           engine.json or a file of it is not what it must be
|- EngineTamperedError (also ValueError)          a file differs from the hash that engine.json states
|- EngineVersionError (also ValueError)           written by a newer Sonant
|- EngineMismatchError                            the golden clips do not come out as they must
|- RuntimeUnavailableError                        no graph of the engine can run on this host
`- OutOfMemoryError (also MemoryError)            the host or the device has not enough memory for a batch
"""


class EngineError(RuntimeError):
    """An engine cannot be used; the message names the file and what to do."""


class EngineNotFoundError(EngineError, FileNotFoundError):
    """There is no engine in the folder, or a file that it names is missing."""


class EngineInvalidError(EngineError, ValueError):
    """A file of the engine is malformed."""


class EngineTamperedError(EngineError, ValueError):
    """A file of the engine does not have the SHA-256 that engine.json states."""


class EngineVersionError(EngineError, ValueError):
    """engine.json has a newer schema than this installation reads."""


class EngineMismatchError(EngineError):
    """The replay of the golden clips is out of bounds: the engine must not be served."""


class RuntimeUnavailableError(EngineError):
    """No runtime of this host can execute any graph of the engine."""


class OutOfMemoryError(EngineError, MemoryError):
    """An allocation failed, on the host or on the device; the engine can go on with less at a time."""
