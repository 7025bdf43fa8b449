"""`python -m ptx.compile`, in `tests/`: write the committed PTX of all CUDA sources anew."""

from .cuda_ptx import COMMITTED, compile_source, source_hash, sources

if __name__ == "__main__":
    COMMITTED.mkdir(exist_ok=True)
    for source in sources():
        text = f"// source {source_hash(source)}\n{compile_source(source)}"
        (COMMITTED / f"{source.stem}.ptx").write_text(text)
