"""Reads the configs of this repository: with PyYAML where it is installed, else by a few lines that know what those
files use of YAML: nested maps, lists of scalars in brackets, plain and quoted scalars, comments."""
import re


def scalar(text):
    """One YAML scalar; `4Ki` and the like stay words."""
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    if text in ("", "~", "null"):
        return None
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def split_outside_brackets(text):
    """At commas that stand in no brackets, braces or quotes."""
    parts, depth, quote, start = [], 0, None, 0
    for i, c in enumerate(text):
        if quote:
            quote = None if c == quote else quote
        elif c in "\"'":
            quote = c
        elif c in "[{":
            depth += 1
        elif c in "]}":
            depth -= 1
        elif c == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    parts.append(text[start:])
    return [part for part in parts if part.strip()]


def value(text):
    """What stands after a key: a scalar, [a, b] or {a: b}."""
    text = text.strip()
    if text.startswith("["):
        return [value(part) for part in split_outside_brackets(text[1:-1])]
    if text.startswith("{"):
        pairs = [part.split(":", 1) for part in split_outside_brackets(text[1:-1])]
        return {key.strip(): value(rest) for key, rest in pairs}
    return scalar(text)


def without_comment(line):
    return re.sub(r"""(?:^|\s)\#(?=(?:[^"]*"[^"]*")*[^"]*$).*""", "", line).rstrip()


def parse(text):
    """Maps by indentation. Lists of maps ("- name: ...") are left out: no model section has one."""
    top = {}
    stack = [(-1, top)]
    for line in map(without_comment, text.splitlines()):
        body = line.strip()
        if not body or body.startswith("- "):
            continue
        found = re.match(r"^([A-Za-z0-9_]+):(?:\s+(.*))?$", body)
        if not found:
            continue
        indent = len(line) - len(line.lstrip())
        while stack[-1][0] >= indent:
            stack.pop()
        key, rest = found.group(1), found.group(2)
        stack[-1][1][key] = value(rest) if rest else {}
        if not rest:
            stack.append((indent, stack[-1][1][key]))
    return top


def read_config(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        import yaml
    except ImportError:
        return parse(text)
    return yaml.safe_load(text)
