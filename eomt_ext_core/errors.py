"""The exceptions of the package: one family, each also a ``ValueError``."""

_MOST_LETTERS = 2000


class EomtExtError(ValueError):
    """Base of every error that this package raises on purpose."""


class ConfigError(EomtExtError):
    """A setting breaks a rule; the message names the rule, the value received and the way out."""


class CheckpointError(EomtExtError):
    """A checkpoint is missing, damaged, foreign, or does not say what its architecture is.

    The message may hold names and values from the file: it is one printable line of bounded length.
    """

    def __init__(self, message: str) -> None:
        shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in message[:_MOST_LETTERS])
        super().__init__(shown if len(message) <= _MOST_LETTERS else f"{shown}…")


class DatasetError(EomtExtError):
    """A data set is empty, incomplete, or holds label values that its layout does not know."""


class OutputError(EomtExtError):
    """A result cannot be written: the message names the file and what the system says."""


class InferenceError(EomtExtError):
    """The network gave a result that must not be used, such as one that is not finite."""


class GroundError(EomtExtError):
    """Nothing can be located on the ground: the calibration or the camera's pose is missing, stale or implausible."""


class ImageError(EomtExtError):
    """An image cannot be used.

    ``reason`` is a short word for counting rejections by kind, such as ``"size"`` or ``"encoding"``.
    """

    def __init__(self, message: str, reason: str = "image") -> None:
        super().__init__(message)
        self.reason = reason
