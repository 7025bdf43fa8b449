"""Errors that a user can cause and mend.

Each carries one line that says what was wanted and what came; the command line prints that line and
exits with status 2. Anything else that escapes is a defect of ours and shows its traceback.
"""


class ViLAMPError(ValueError):
    """Base of every error caused by the input rather than by a defect."""


class CheckpointError(ViLAMPError):
    """A model folder is missing, incomplete or of another architecture."""


class VideoError(ViLAMPError):
    """A video cannot be opened, has no picture stream, or yields no frame."""


class InputError(ViLAMPError):
    """An argument such as the question, a shape or a setting is unusable."""


class NotFiniteError(InputError):
    """Numbers inside the model became NaN or infinite, so there is no answer.

    `question`: number of the question that this concerns, among those asked together; None where
    it concerns all of them.
    """

    def __init__(self, message: str, question: int | None = None):
        super().__init__(message)
        self.question = question
