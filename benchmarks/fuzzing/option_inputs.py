"""Inputs on the command line: options of every command, budgets and files of options."""

import random
from argparse import Action
from collections.abc import Mapping
from functools import cache

import yaml

from benchmarks.fuzzing.materials import BUDGET, TINY_SEARCH, TINY_SPLIT, Asked, Place
from benchmarks.fuzzing.odd import VALUES, changed, damaged, misspelt, odd_text, pick
from planner.cli.main import COMMANDS, command_parser

_LIMITS = {"--evaluations", "--minutes", "--tokens"}
"""Options that end a search: one of them stays as it is."""
_NAMES = "params size macs kv nonzero packed active loading latency throughput kl"
_AMOUNTS = "0 -1 1e-9 1e999 nan 0,7 ½ ٣ inf"
_OPERATORS = "< = == >= ≥ =< != : <<= ≤≤ ⩽"
_UNITS = "% ms s tokens/s B MBit /token xx € X mb"
_IN_BYTES = ("size", "kv", "packed", "loading")


def options(place: Place) -> Asked:
    """Return a command with one to three options that are odd, misspelt, repeated or bare."""
    rng = place.rng
    command = pick(COMMANDS, rng)
    words, out, changes = _sound(command, place)
    chosen: set[str] = set()
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name = pick(_options(command), rng)
        if name in _LIMITS and chosen & _LIMITS:
            continue
        chosen.add(name)
        words += _odd_option(_options(command)[name], name, rng)
        if "out" in name and out:
            out = None
    if command == "demo":  # which takes minutes where it may
        words.append("--out=full")
    return Asked(words=words, out=out, changes=changes)


def budgets(place: Place) -> Asked:
    """Return a command with an odd budget."""
    rng = place.rng
    budget = _odd_budget(rng)
    kind = rng.random()
    if kind < 0.6:
        run = str(place.materials.path("run"))
        name = rng.choice(("budget", "budgets"))
        return Asked(words=["front", run, f"--{name}={budget}"])
    if kind < 0.75:
        run = str(place.materials.path("run"))
        return Asked(words=["export", run, f"--budget={budget}", "--out=out"], out="out")
    words, out, _ = _sound(rng.choice(("search", "search", "compare")), place)
    return Asked(words=[*words, f"--budget={budget}"], out=out)


def configs(place: Place) -> Asked:
    """Return a command with an odd file of options."""
    rng = place.rng
    command = rng.choice(("search", "search", "compare", "to-moe"))
    words, out, _ = _sound(command, place)
    given = [word for word in words if not word.startswith("--") or word.startswith("--out=")]
    moved = dict(word[2:].split("=", 1) for word in words if word not in given)
    values = {name: _number(value) for name, value in moved.items()}
    place.write("options.yaml", odd_yaml(yaml.safe_dump(values), rng))
    spelt = rng.choice((["--config", "options.yaml"], ["--config=options.yaml"]))
    return Asked(words=[*given, *spelt, *rng.choice(([], [], ["--seed=1"]))], out=out)


def odd_yaml(text: str, rng: random.Random) -> bytes:
    """Change a mapping in YAML, or its text."""
    kind = rng.random()
    if kind < 0.45:
        values = yaml.safe_load(text)
        for _ in range(rng.choice((1, 1, 2))):
            values = _changed_mapping(values, rng)
        return yaml.dump(values, allow_unicode=True).encode("utf-8", "surrogatepass")
    if kind < 0.6:
        return damaged(text.encode(), rng)
    if kind < 0.75:
        return _line_added(text, rng).encode("utf-8", "surrogatepass")
    return rng.choice(_whole_yaml(text))


def _changed_mapping(values: object, rng: random.Random) -> object:
    if not isinstance(values, dict) or not values or rng.random() < 0.7:
        return changed(values, rng)
    key = rng.choice(
        (None, True, 1, 1.5, (1, 2), "", "--seed", "seed ", "SEED", "model", "config")
    )
    return {**values, key: rng.choice(VALUES)}


def _line_added(text: str, rng: random.Random) -> str:
    line = f"{rng.choice(('seed', 'data', 'budget', 'x', '? a'))}: {odd_text(rng)}"
    lines = [*text.splitlines(), rng.choice((line, line, f"  {line}", f"\t{line}", "---", "..."))]
    rng.shuffle(lines)
    return "\n".join(lines) + "\n"


def _whole_yaml(text: str) -> list[bytes]:
    bomb = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))
    return [
        f"a0: &a0 [x]\n{bomb}\n".encode(),
        b"[" * 5000,
        b"{a: " * 3000 + b"1" + b"}" * 3000,
        b"- " * 5000 + b"1",
        "".join(f"{' ' * n}a:\n" for n in range(2000)).encode(),
        b"a: &a [*a]\n",
        text.encode("utf-16"),
        f"# é\n{text}".encode("latin-1"),
        b"\xef\xbb\xbf" + text.encode(),
        text.replace("\n", "\r\n").encode(),
        text.encode() * 2,
        b"seed: " + b"9" * 5000,
        b"seed: 0x" + b"f" * 5000,
        b"seed: 1:" + b"59:" * 400 + b"1",
        b"minutes: 1e999999999999",
        b"seed: !!int x",
        b"seed: !!float []",
        b"seed: !!timestamp 9999999999-01-01",
        b"seed: 2026-13-45",
        b"data: !!binary ///",
        b"!!python/object/apply:os.system ['touch ../ran']\n",
        b"seed: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path "
        b"[../ran]]\n",
        b"<<: [{seed: 1}, {seed: 2}]\n",
        b"<<: 1\n",
        b"? {a: 1}\n: 2\n",
        b"? [a]\n: 2\n",
        b"%YAML 9.9\n---\nseed: 1\n",
        b"seed: 1\n---\nseed: 2\n",
        b"config: options.yaml\n",
        b"\0",
        b"\x1b[31mseed: 1",
        b"a" * 2_000_000,
        b"seed: " + b"a" * 200_000,
        b"",
        b"# nothing\n",
        b"~",
        b"1",
        b"[seed, 1]",
        b"seed",
    ]


def _number(value: str) -> object:
    return yaml.safe_load(value) if value[:1].isdigit() else value


def _sound(command: str, place: Place) -> tuple[list[str], str | None, list[str]]:
    """Return a command that succeeds, or is refused for its folder; its output and changes."""
    run = str(place.materials.path("run"))
    if command == "front":
        return [command, run], None, []
    if command == "export":
        return [command, run, f"--budget={BUDGET}", "--out=out"], "out", []
    place.copy("Llama", "model")
    if command == "inspect":
        return [command, "model"], None, []
    place.copy("text.txt")
    if command == "demo":
        (place.work / "full").mkdir()
        (place.work / "full" / "notes.txt").write_text("Not the planner's.\n", encoding="utf-8")
        return [command], None, []
    words = [command, "model", "--data=text.txt", "--out=out"]
    if command == "to-moe":
        return [*words, *TINY_SPLIT], "out", []
    words += [*TINY_SEARCH, f"--budget={BUDGET}"]
    return [*words, *(["--recipes=uniform"] if command == "compare" else [])], "out", []


@cache
def _options(command: str) -> Mapping[str, Action]:
    """Return the options of a command that are listed by its parser, by name."""
    return {
        action.option_strings[-1]: action
        for action in command_parser(command)._actions
        if action.option_strings and action.dest != "config"
    }


def _odd_option(action: Action, name: str, rng: random.Random) -> list[str]:
    """Return an option's words; what limits a search stays limited by the others."""
    spelt = name.replace("_", "-") if rng.random() < 0.2 else name
    kind = rng.random()
    if kind < 0.06:
        spelt = misspelt(spelt, rng)
    elif kind < 0.1:
        spelt = spelt[: rng.randint(3, len(spelt))]
    if kind > 0.93 or action.nargs == 0:
        return [spelt] if kind > 0.2 else [f"{spelt}={odd_text(rng)}"]
    value = _odd_value(action, rng)
    return [f"{spelt}={value}"] if rng.random() < 0.6 else [spelt, value]


def _odd_value(action: Action, rng: random.Random) -> str:
    metavar = str(action.metavar)
    if "budget" in action.dest and rng.random() < 0.7:
        return _odd_budget(rng)
    if metavar.startswith("{") and rng.random() < 0.6:
        return _odd_choice(metavar.strip("{}").split(","), rng)
    if metavar in {"INT", "FLOAT"} and rng.random() < 0.6:
        return rng.choice(
            ("0", "-1", "1", "2", "1.5", "1e3", "1000000", "inf", "nan", "1e300", "True")
        )
    if action.dest in {"space", "recipes", "compensate"} and rng.random() < 0.6:
        names = "heads channels drops experts top_k sparsity 2:4 4:8 layers none bias obs tuning"
        names += " merge admm dsnot uniform greedy knapsack"
        chosen = rng.sample(names.split(), rng.randint(1, 3))
        return rng.choice((",", ", ", ",,", ";", " ")).join(chosen)
    return odd_text(rng)


def _odd_choice(choices: list[str], rng: random.Random) -> str:
    value = pick(choices, rng)
    kind = rng.random()
    if kind < 0.5:
        return value
    return rng.choice((value.upper(), f" {value}", f"{value},", misspelt(value, rng), "none"))


def _odd_budget(rng: random.Random) -> str:
    terms = [_sound_term(rng) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    kind = rng.random()
    if kind < 0.5:
        terms[rng.randrange(len(terms))] = _term(rng)
    budget = rng.choice((",", ",", ",", ", ", ";", " and ", ",,", "\n")).join(terms)
    if kind > 0.85:
        return misspelt(budget, rng)
    return odd_text(rng) if kind > 0.8 else budget


def _sound_term(rng: random.Random) -> str:
    name = rng.choice(_NAMES.split())
    units = ("", "MB", "kB", "KiB", "GB") if name in _IN_BYTES else ("", "K", "M")
    amounts = ("0.7x", "0.9x", "1x", "0.85x", ".8x", "1e-1x", f"100{rng.choice(units)}")
    if name == "kl":
        amounts = ("0.1", "1", "0", "1e-3", "100", ".5", "5.")
    space = rng.choice(("", "", "", " "))
    operator = rng.choice(("<=", "<=", "≤", " <= "))
    return f"{name}{operator}{space}{rng.choice(amounts)}"


def _term(rng: random.Random) -> str:
    """Return a term of which one or more parts are odd."""
    name, number = (
        rng.choice(_NAMES.split()),
        rng.choice(("0.7", "0.9", "1", "2", "1e5", "100000")),
    )
    operator, unit = "<=", rng.choice(("x", "x", "", "MB", "K"))
    for part in rng.sample("noau", rng.choice((1, 1, 2))):
        if part == "n":
            name = rng.choice((name.upper(), misspelt(name, rng), "", "flops", "memory", "PARAMS"))
        elif part == "o":
            operator = rng.choice(_OPERATORS.split())
        elif part == "a":
            number = rng.choice((*_AMOUNTS.split(), "9" * 400, "", odd_text(rng)))
        else:
            unit = rng.choice((*_UNITS.split(), " x"))
    return f"{name}{operator}{number}{unit}"
