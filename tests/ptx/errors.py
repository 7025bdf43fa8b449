"""The one exception of the interpreter."""


class PtxError(RuntimeError):
    """A kernel did what it must not, or the interpreter does not know an instruction."""
