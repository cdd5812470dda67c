"""The exceptions of the package: one family, each also a ``ValueError``."""


class EomtExtError(ValueError):
    """Base of every error that this package raises on purpose."""


class ConfigError(EomtExtError):
    """A setting breaks a rule; the message names the rule, the value received and the way out."""


class CheckpointError(EomtExtError):
    """A checkpoint is missing, damaged, foreign, or does not say what its architecture is."""


class DatasetError(EomtExtError):
    """A data set is empty, incomplete, or holds label values that its layout does not know."""


class OutputError(EomtExtError):
    """A result cannot be written: the message names the file and what the system says."""


class InferenceError(EomtExtError):
    """The network gave a result that must not be used, such as one that is not finite."""


class ImageError(EomtExtError):
    """An image cannot be used.

    ``reason`` is a short word for counting rejections by kind, such as ``"size"`` or ``"encoding"``.
    """

    def __init__(self, message: str, reason: str = "image") -> None:
        super().__init__(message)
        self.reason = reason
