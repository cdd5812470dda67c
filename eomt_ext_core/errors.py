"""The exceptions of the package: one family, each also a ``ValueError``."""

_MAX_CHARACTERS = 2000


class EomtExtError(ValueError):
    """Base of every error that this package raises on purpose."""


class ConfigError(EomtExtError):
    """A setting breaks a rule; the message names the rule, the value received and the way out."""


class CheckpointError(EomtExtError):
    """A checkpoint is missing, damaged, foreign, or does not determine its architecture.

    The message may contain names and values from the file: it is one printable line of limited length.
    """

    def __init__(self, message: str) -> None:
        start = message[:_MAX_CHARACTERS]
        shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in start)
        super().__init__(shown if len(message) <= _MAX_CHARACTERS else f"{shown}…")


class DatasetError(EomtExtError):
    """A data set is empty, incomplete, or has unknown label values."""


class OutputError(EomtExtError):
    """A result cannot be written; the message names the file and the reason of the system."""


class InferenceError(EomtExtError):
    """The network's result must not be used, for example because it is not finite."""


class GroundError(EomtExtError):
    """Nothing can be located on the ground: the calibration or the camera's pose is missing, stale or implausible."""


class ImageError(EomtExtError):
    """An image cannot be used.

    ``reason`` is a short word to count rejections by kind, such as ``"size"`` or ``"encoding"``.
    """

    def __init__(self, message: str, reason: str = "image") -> None:
        super().__init__(message)
        self.reason = reason
