"""Models around a node that may be left out."""


def around(noop: str, constants: str = "", shape: str = "N,3,4", dtype: str = "float") -> str:
    """A model whose node that makes `b` of `a` stands between two others."""
    held = f"<{constants}>" if constants else ""
    op = "Not" if dtype == "bool" else "Neg"
    return f"g ({dtype}[{shape}] x) => ({dtype}[{shape}] y) {held} {{ a = {op}(x)  {noop}  y = {op}(b) }}"
