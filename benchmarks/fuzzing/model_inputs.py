"""Inputs as models: configs, indices, weights and tokenizers that are odd, and planted code."""

import json
import random
from pathlib import Path
from typing import Any

from benchmarks.fuzzing.materials import FAMILIES, TINY_SEARCH, TINY_SPLIT, Asked, Place
from benchmarks.fuzzing.odd import VALUES, changed, damaged, odd_json, pick, pickled

_CODE = "from pathlib import Path\nPath('../ran').touch()\nPath('../../ran').touch()\n"
_FIELDS: dict[str, list[Any]] = {
    "model_type": ["gpt2", "bert", "t5", "mamba", "Llama", "", "llava", "xlnet", 1],
    "architectures": [["GPT2LMHeadModel"], ["LlamaModel"], [], "LlamaForCausalLM", ["X"], [1]],
    "num_hidden_layers": [0, 1, 3, 2**31, -1, "2", 2.0, [2]],
    "hidden_size": [0, 31, 33, 64, 2**31, -32, "32"],
    "num_attention_heads": [0, 3, 8, 1, 2**20, -4],
    "num_key_value_heads": [0, 3, 4, 8, None, -2, [1, 2]],
    "head_dim": [0, 7, 16, None, -8, "8"],
    "intermediate_size": [0, 47, 96, 2**40, [48, 32], -1],
    "vocab_size": [0, 95, 97, 2**31, -1, "96"],
    "max_position_embeddings": [0, 1, 8, 2**40, None, -1],
    "rope_theta": [0, -1, 1e300, "10000", None],
    "rope_parameters": [
        None,
        {},
        {"rope_type": "x"},
        {"rope_type": "yarn"},
        1,
        {"rope_theta": {}},
    ],
    "rope_scaling": [{"type": "linear", "factor": 0}, {"rope_type": "dynamic", "factor": "x"}, []],
    "rms_norm_eps": [0, -1, 1e300, "x", None],
    "hidden_act": ["relu", "x", None, 1, ""],
    "tie_word_embeddings": [True, False, None, "yes", 1],
    "dtype": ["bfloat16", "float16", "float8", "int8", "x", None, 32],
    "torch_dtype": ["bfloat16", "x", None],
    "bos_token_id": [None, -1, 10**6, "x", [1], 96],
    "eos_token_id": [None, -1, 10**6, "x", [], [1, "x"], 96],
    "pad_token_id": [None, -1, 10**6, "x", 96],
    "quantization_config": [{}, {"quant_method": "gptq", "bits": 4}, {"quant_method": "x"}, 1],
    "auto_map": [
        {"AutoConfig": "planted.X"},
        {"AutoModelForCausalLM": "planted.X"},
        1,
        {"A": None},
    ],
    "layer_types": [["full_attention"], ["x", "x"], [], "full_attention", [None, None]],
    "sliding_window": [0, 1, -1, "x", 2**40],
    "attention_bias": [True, None, "x"],
    "mlp_bias": [True, None],
    "text_config": [{}, None, {"model_type": "llama"}, 1],
    "id2label": [{"x": 1}, None, 1],
    "num_local_experts": [0, 1, 3, 8, 2**31, None, "4"],
    "num_experts_per_tok": [0, 5, -1, None, "x"],
    "per_layer_config": [{}, 1, {"0": {"num_key_value_heads": 1}}],
    "attn_implementation": ["x", "flash_attention_2"],
    "_attn_implementation": ["x"],
    "transformers_version": ["99.0", None, 1],
    "use_cache": [False, None, "x"],
    "is_encoder_decoder": [True, "x"],
}
_GENERATION: dict[str, list[Any]] = {
    "num_beams": [2, 0, "x"],
    "do_sample": [True, None, "x"],
    "temperature": [0, -1, 1e300, "x"],
    "top_k": [0, -1, 10**9, "x"],
    "top_p": [0, 2, -1, "x"],
    "min_p": [1, -1, 2],
    "max_length": [0, 1, -1, "x"],
    "eos_token_id": [None, [], "x", 10**6, [1, None]],
    "return_dict_in_generate": [True],
    "repetition_penalty": [0, -1, 1e30],
    "cache_implementation": ["static", "x"],
    "penalty_alpha": [0.6],
    "custom_generate": ["planted", "x/y"],
    "forced_bos_token_id": [10**6, "x"],
    "bad_words_ids": [[], [[1]], "x"],
    "guidance_scale": [2.0],
    "stop_strings": [["w3"], 1],
}


def models(place: Place) -> Asked:
    """Return a command on a model that is odd, alone or with its files."""
    rng = place.rng
    family = "Llama" if rng.random() < 0.6 else pick(FAMILIES, rng)
    folder = place.copy(family, "model")
    for _ in range(rng.choice((1, 1, 2))):
        change = rng.choice((_config, _config, _config, _generation, _tokenizer, _weights, plant))
        change(place, folder, rng)
    kind = rng.random()
    place.copy("text.txt")
    if kind < 0.5:
        return Asked(words=["inspect", "model"])
    own = 0.6 if (folder / "planted.py").exists() else 0.2  # text that the model itself writes
    text = [] if rng.random() < own else ["--data=text.txt"]
    if kind < 0.85:
        return Asked(words=["search", "model", *text, *TINY_SEARCH, "--out=out"], out="out")
    return Asked(words=["to-moe", "model", *text, *TINY_SPLIT, "--out=out"], out="out")


def _config(place: Place, folder: Path, rng: random.Random) -> None:
    _json_file(place, folder / "config.json", _FIELDS, rng)


def _generation(place: Place, folder: Path, rng: random.Random) -> None:
    _json_file(place, folder / "generation_config.json", _GENERATION, rng)


def _json_file(place: Place, path: Path, fields: dict[str, list[Any]], rng: random.Random) -> None:
    """Set a field to an odd value, or change the file in any way."""
    name = str(path.relative_to(place.work))
    text = path.read_text("utf-8", "replace") if path.is_file() else "{}"
    try:
        values = json.loads(text)
    except ValueError:
        return
    if rng.random() < 0.3 or not isinstance(values, dict):
        place.write(name, odd_json(text, rng))
        return
    field = pick(fields, rng)
    value = rng.choice(fields[field] if rng.random() < 0.75 else VALUES)
    place.remarks.append(f"{path.name}: {field} = {str(value)[:80]!r}")
    place.write(name, json.dumps({**values, field: value}))


def _tokenizer(place: Place, folder: Path, rng: random.Random) -> None:
    name = rng.choice(("tokenizer.json", "tokenizer.json", "tokenizer_config.json"))
    path, kind = folder / name, rng.random()
    text = path.read_text(encoding="utf-8") if path.is_file() else "{}"
    if kind < 0.15:
        path.unlink(missing_ok=True)
        place.remarks.append(f"{name} is absent")
    elif kind < 0.3 and name == "tokenizer.json":
        shift = rng.choice((1, 50, 10**6))
        place.write(f"model/{name}", text.replace('": 9', f'": {shift}9'))
    elif kind < 0.4:
        place.write("model/chat_template.jinja", rng.choice(("{{ x", "{% for %}", "", "\0", "é")))
        place.write("model/special_tokens_map.json", odd_json('{"bos_token": "<s>"}', rng))
        place.write("model/added_tokens.json", odd_json('{"<x>": 96}', rng))
    else:
        try:
            place.write(f"model/{name}", odd_json(text, rng))
        except ValueError:
            place.write(f"model/{name}", damaged(text.encode(), rng))


def _weights(place: Place, folder: Path, rng: random.Random) -> None:
    """Damage the weights, or their header; or split them over files by an odd index."""
    path = folder / "model.safetensors"
    if not path.is_file():
        return
    data, kind = path.read_bytes(), rng.random()
    length = int.from_bytes(data[:8], "little")
    if kind < 0.3:
        place.write("model/model.safetensors", damaged(data, rng))
    elif kind < 0.6 and length < len(data):
        header = odd_json(data[8 : 8 + length].decode("utf-8", "replace"), rng)
        size = len(header).to_bytes(8, "little")
        place.write("model/model.safetensors", size + header + data[8 + length :])
    elif kind < 0.7:
        path.unlink()
        place.write(f"model/{rng.choice(('pytorch_model.bin', 'model.bin'))}", pickled())
    elif length < len(data):
        names = [name for name in json.loads(data[8 : 8 + length]) if name != "__metadata__"]
        path.rename(folder / "part.safetensors")
        index: dict[str, Any] = {
            "metadata": {"total_size": 1},
            "weight_map": dict.fromkeys(names, "part.safetensors"),
        }
        target = rng.choice(
            ("../beside.txt", "/etc/hostname", "part.bin", "absent.safetensors", "")
        )
        if rng.random() < 0.5:
            index["weight_map"][pick(names, rng)] = target
        elif rng.random() < 0.7:
            index = changed(index, rng)
        (folder / "part.bin").write_bytes(pickled())
        place.write("model/model.safetensors.index.json", json.dumps(index))


def plant(place: Place, folder: Path, rng: random.Random) -> None:
    """Plant code and pickles that libraries may run if they are let."""
    for name in ("planted.py", "custom_generate/generate.py", "modeling_llama.py"):
        place.write(f"model/{name}", f"{_CODE}class X: pass\ndef generate(*a, **k): pass\n")
    for name in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin"):
        place.write(f"model/{name}", pickled())
    kind = rng.randrange(6)
    path = folder / rng.choice(("config.json", "tokenizer_config.json", "generation_config.json"))
    maps = {
        "AutoConfig": "planted.X",
        "AutoModelForCausalLM": "planted.X",
        "AutoTokenizer": ["planted.X", "planted.X"],
        "AutoProcessor": "planted.X",
        "AutoImageProcessor": "planted.X",
    }
    if kind <= 2:
        changes: dict[str, Any] = {"auto_map": maps}
        if kind == 1:
            changes |= {"model_type": "planted", "tokenizer_class": "X"}
        values = json.loads(path.read_text("utf-8", "replace")) if path.is_file() else {}
        place.write(f"model/{path.name}", json.dumps({**values, **changes}))
    elif kind == 3:
        place.write(
            "model/adapter_config.json", odd_json('{"base_model_name_or_path": "../x"}', rng)
        )
    elif kind == 4:
        place.write("model/preprocessor_config.json", json.dumps({"auto_map": maps}))
        place.write("model/processor_config.json", json.dumps({"auto_map": maps}))
    else:
        (folder / "model.safetensors").unlink(missing_ok=True)
