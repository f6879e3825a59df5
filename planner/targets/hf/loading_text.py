"""How an exported folder is loaded, as a section of its card."""

_TRUST = ", trust_remote_code=True"
_TRANSFORMERS = """\
{requires}In transformers:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(FOLDER{model_trust})
tokenizer = AutoTokenizer.from_pretrained(FOLDER{tokenizer_trust})
```
"""
_MODEL_CODE = """
The model needs `trust_remote_code=True` for `modeling_pruned.py`, which compression-planner wrote.
Where that is installed, `import planner; planner.register(FOLDER)` takes its place: it runs the
file only if it is as it was written.
"""
_TOKENIZER_CODE = """
The tokenizer needs `trust_remote_code=True` for code that came with it; read that first.
"""
_PACKED = """
Loading takes `pip install compressed-tensors`: linear layers hold packed integers, which vLLM
multiplies as they are, and transformers unpacks when they first run.
"""
_VLLM = """
In vLLM{backend}: `vllm serve FOLDER{vllm_trust}`.
"""


def loading_text(
    *,
    model_needs_code: bool,
    tokenizer_needs_code: bool,
    requires: str,
    is_packed: bool = False,
    refused_by_vllm: str = "",
) -> str:
    """Return how to load a folder in transformers and in vLLM.

    Args:
        model_needs_code: Whether the model runs code of ours.
        tokenizer_needs_code: Whether the tokenizer runs code of its own.
        requires: Versions of transformers that read it as meant, if not all do.
        is_packed: Whether some of its matrices are packed integers.
        refused_by_vllm: Why vLLM does not hold it; empty: it does.
    """
    needs_code = model_needs_code or tokenizer_needs_code
    text = _TRANSFORMERS.format(
        requires=f"Loading takes `{requires}`.\n\n" if requires else "",
        model_trust=_TRUST if model_needs_code else "",
        # which looks at the model's config, and asks whether its code may run
        tokenizer_trust=_TRUST if needs_code else "",
    )
    text += _MODEL_CODE if model_needs_code else ""
    text += _TOKENIZER_CODE if tokenizer_needs_code else ""
    text += _PACKED if is_packed else ""
    if refused_by_vllm:
        return f"{text}\nvLLM does not load it: {refused_by_vllm}.\n"
    return text + _VLLM.format(
        backend=", through its Transformers backend" if model_needs_code else "",
        vllm_trust=" --trust-remote-code" if needs_code else "",
    )
