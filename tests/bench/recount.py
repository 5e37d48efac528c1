#!/usr/bin/env python3
"""recount.py VASILY [SAMPLES]: makes shards with awkward fields (make_awkward_shards.py), counts with tarfile and json
what docs/filters.md says of them, and compares every number with those of `vasily data stats --json`. Nothing is shared
with the program but the rules."""
import json
import math
import os
import re
import subprocess
import sys
import tarfile
import tempfile

from make_awkward_shards import make

SIDE = 64
SCORES = {
    "watermark": ["pwatermark", "watermark_score"],
    "unsafe": ["punsafe"],
    "similarity": ["similarity", "clip_similarity_vitb32", "clip_similarity_vitl14"],
    "aesthetic": ["aesthetic", "AESTHETIC_SCORE", "aesthetic_score_laion_v2"],
}
SIZES = [("original_width", "original_height"), ("WIDTH", "HEIGHT"), ("width", "height")]
BLANKS = " \t\n\r\f\v"
JSON_LIMIT, DEPTH_LIMIT = 1 << 20, 32


def number(value):
    if isinstance(value, str):
        if not re.fullmatch(r"[-+.0-9eE]{1,64}", value):
            return None
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def first_number(root, names):
    return next((n for n in (number(root.get(name)) for name in names) if n is not None), None)


def first_text(root, names):
    return next((t for t in (root.get(name) for name in names) if isinstance(t, str) and t), None)


def depth(value):
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inside is None else 1 + max((depth(v) for v in inside), default=0)


def parse(data):
    """The object, or None when the .json is broken."""
    try:
        root = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return root if isinstance(root, dict) and depth(root) <= DEPTH_LIMIT else None


def fields_of(root, members, source):
    f = {name: first_number(root, names) for name, names in SCORES.items()}
    f["width"] = f["height"] = None
    for pair in SIZES:
        w, h = number(root.get(pair[0])), number(root.get(pair[1]))
        if w is not None and h is not None and 1 <= w <= 1e9 and 1 <= h <= 1e9:
            f["width"], f["height"] = float(int(w)), float(int(h))
            break
    sized = f["width"] is not None
    f["side"] = min(f["width"], f["height"]) if sized else None
    f["aspect"] = max(f["width"], f["height"]) / f["side"] if sized else None
    f["pixels"] = f["width"] * f["height"] if sized else None
    f["language"] = first_text(root, ["LANGUAGE", "language"])
    f["status"] = first_text(root, ["status"])
    f["caption"] = first_text(root, ["caption", "TEXT", "top_caption"])
    text = f["caption"] if source["caption"] != "txt" else None
    if text is None and source["caption"] != "json" and "txt" in members:
        try:
            text = members["txt"].decode("utf-8")
            text = None if "\0" in text else text
        except UnicodeDecodeError:
            pass
    f["caption_length"] = None if text is None else float(len(text.strip(BLANKS)))
    return f


# Expressions in three-valued logic: True, False, None.
def either(*values):
    return True if True in values else None if None in values else False


def both(*values):
    return False if False in values else None if None in values else True


def negate(value):
    return None if value is None else not value


def compare(value, test):
    return None if value is None else test(value)


def text_of(root, name):
    value = root.get(name)
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else None


EXPRESSIONS = [
    ("aspect <= 2 or not has aspect", lambda f, r: either(compare(f["aspect"], lambda v: v <= 2), f["aspect"] is None)),
    ("caption_length > 2 and caption_length < 800",
     lambda f, r: both(compare(f["caption_length"], lambda v: v > 2), compare(f["caption_length"], lambda v: v < 800))),
    ("not (json.NSFW == NSFW or json.rank >= 4)",
     lambda f, r: negate(either(compare(text_of(r, "NSFW"), lambda v: v == "NSFW"),
                                compare(number(r.get("rank")), lambda v: v >= 4)))),
    ("json.NSFW not in [UNSURE, \"кот\"] or pixels >= 1e5 or status == success",
     lambda f, r: either(compare(text_of(r, "NSFW"), lambda v: v not in ("UNSURE", "кот")),
                         compare(f["pixels"], lambda v: v >= 1e5), compare(f["status"], lambda v: v == "success"))),
    ("has language or has json.rank or similarity != 0.3",
     lambda f, r: either(f["language"] is not None,
                         number(r.get("rank")) is not None or text_of(r, "rank") is not None,
                         compare(f["similarity"], lambda v: v != 0.3))),
]
OWN = [("language in [en, ru, fr, EN] or unsafe < 0.9",
        lambda f, r: either(compare(f["language"], lambda v: v in ("en", "ru", "fr", "EN")),
                            compare(f["unsafe"], lambda v: v < 0.9)))]


def rules(source):
    """(text, missing, left out): the thresholds, then the expressions."""
    def least(name, limit):
        return (f"{name} >= {limit:g}", lambda f, r: f[name] is None, lambda f, r: f[name] is not None and f[name] < limit)

    def below(name, limit):
        return (f"{name} < {limit:g}", lambda f, r: f[name] is None, lambda f, r: f[name] is not None and f[name] >= limit)

    out = [("downloaded", lambda f, r: f["status"] is None, lambda f, r: (f["status"] or "").startswith("failed"), False,
            "not_downloaded")]
    out += [below("watermark", 0.5) + (True, "watermark"), below("unsafe", 0.95) + (True, "unsafe"),
            least("similarity", 0.2) + (True, "similarity"), least("aesthetic", 3) + (True, "aesthetic"),
            least("side", SIDE) + (False, "small")]
    for text, value in EXPRESSIONS + source["where"]:
        out.append((text, lambda f, r, v=value: v(f, r) is None, lambda f, r, v=value: v(f, r) is False, True, "filtered"))
    return out


# ---- captions ----
def rank(choice, language):
    codes = [c.lower() for c in choice if c not in ("random", "first")]
    if language.lower() in codes:
        return codes.index(language.lower())
    return len(codes) if choice[-1] in ("random", "first") else -1


def member_language(suffix):
    match = re.fullmatch(r"([a-z]{2}(?:[-_][a-z0-9]+)*)\.txt", suffix)
    return match.group(1) if match else None


class Reject(Exception):
    pass


def usable(text):
    """Without blanks around it; the program refuses U+0000."""
    if "\0" in text:
        raise Reject("bad_utf8")
    return text.strip(BLANKS)


def texts_in(value):
    return [value] if isinstance(value, str) else [v for v in value if isinstance(v, str)] if isinstance(value, list) else []


def find_captions(root, members, f, source):
    choice = source["choice"]
    fits = f["language"] is None or rank(choice, f["language"]) >= 0
    last_first = choice[-1] == "first"
    given = root.get("captions")

    def take(texts):
        found = []
        for text in texts:
            text = usable(text)
            if text:
                found.append(text)
            if found and last_first:
                break
        return found

    if source["caption"] != "txt" and isinstance(given, dict) and given:
        there = [(language, texts_in(v)) for language, v in given.items() if any(t.strip(BLANKS) for t in texts_in(v))]
        ranks = [rank(choice, language) for language, _ in there if rank(choice, language) >= 0]
        if there and not ranks:
            raise Reject("language")
        found = take([t for language, v in given.items() if ranks and rank(choice, language) == min(ranks)
                      for t in texts_in(v)])
        if found:
            return found
    if source["caption"] != "txt" and isinstance(given, list) and any(t.strip(BLANKS) for t in texts_in(given)):
        if not fits:
            raise Reject("language")
        found = take(texts_in(given))
        if found:
            return found
    if source["caption"] != "json":
        by_rank, any_there = {}, False
        for suffix, data in members.items():
            language = member_language(suffix)
            if language and data:
                any_there = True
                by_rank.setdefault(rank(choice, language), []).append(data)
        for r in sorted(r for r in by_rank if r >= 0):
            found = take([d.decode("utf-8") for d in by_rank[r]])
            if found:
                return found
        if any_there and choice[-1] not in ("random", "first"):
            raise Reject("language")
    if source["caption"] != "txt" and f["caption"] is not None:
        if not fits:
            raise Reject("language")
        if take([f["caption"]]):
            return take([f["caption"]])
    if source["caption"] != "json" and "txt" in members:
        if not fits:
            raise Reject("language")
        try:
            text = members["txt"].decode("utf-8")
        except UnicodeDecodeError:
            raise Reject("bad_utf8") from None
        if take([text]):
            return take([text])
    raise Reject("no_caption")


def languages_of(root, members, f):
    found = list(root["captions"]) if isinstance(root.get("captions"), dict) else []
    found += [member_language(s) for s in members if member_language(s)]
    if not found and f["language"] is not None:
        found = [f["language"]]
    codes = set()
    for language in found:
        match = re.match(r"([A-Za-z]{2,3})(?:[-_]|$)", language)
        codes.add(match.group(1).lower() if match else "other")
    return codes


# ---- pictures ----
def picture_size(data):
    """(format, width, height), or (format, None, None) when the header is broken."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        size = (int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))
        return ("PNG", *size) if len(data) >= 24 else ("PNG", None, None)
    if data[:3] == b"\xff\xd8\xff":
        at = 2
        while at + 4 <= len(data):
            while data[at] == 0xFF and at + 1 < len(data):
                at += 1
            if 0xC0 <= data[at] <= 0xCF and data[at] not in (0xC4, 0xC8, 0xCC):
                if at + 8 > len(data):
                    break
                return "JPEG", int.from_bytes(data[at + 6:at + 8], "big"), int.from_bytes(data[at + 4:at + 6], "big")
            at += 1 + int.from_bytes(data[at + 1:at + 3], "big")
        return "JPEG", None, None
    return "unknown", None, None


# ---- counting ----
class Counts:
    def __init__(self, scales):
        self.scales = scales
        self.sources = {}
        self.reasons = {}
        self.histograms = {name: {"all": [0] * (len(e) + 1), "kept": [0] * (len(e) + 1), "missing": 0, "missing_kept": 0}
                           for name, e in scales.items()}
        self.languages, self.not_told = {}, {"all": 0, "kept": 0}
        self.pictures = {}
        self.with_fields = 0

    def value(self, name, value, kept):
        histogram = self.histograms[name]
        bin_number = None if value is None else sum(value >= edge for edge in self.scales[name])
        for word, there in (("all", True), ("kept", kept)):
            if there and value is None:
                histogram["missing" if word == "all" else "missing_kept"] += 1
            elif there:
                histogram[word][bin_number] += 1


def look_at(members, duplicate, source, missing_policy, counts):
    own = counts.sources[source["name"]]
    root, f, stored = {}, None, None
    languages = set()
    try:
        if duplicate:
            raise Reject("duplicate_member")
        if "json" in members:
            root = parse(members["json"])
            if root is None:
                raise Reject("bad_json")
        f = fields_of(root, members, source)
        languages = languages_of(root, members, f)
        verdict = None
        for i, (_, missing, out, by_policy, reason) in enumerate(rules(source)):
            lacks = missing(f, root)
            left_out = out(f, root) or (lacks and by_policy and missing_policy == "drop")
            own["filters"][i]["missing"] += lacks
            own["filters"][i]["alone"] += left_out
            if left_out and verdict is None:
                own["filters"][i]["after"] += 1
                verdict = "missing_field" if lacks and by_policy else reason
        if verdict:
            raise Reject(verdict)
        find_captions(root, members, f, source)
        data = next((members[s] for s in ("jpg", "jpeg", "png", "webp") if s in members), None)
        if data is None:
            raise Reject("no_picture")
        kind, width, height = picture_size(data)
        counts.pictures[kind] = counts.pictures.get(kind, 0) + 1
        if width is None:
            raise Reject({"PNG": "bad_png", "JPEG": "bad_jpeg", "unknown": "unknown_picture"}[kind])
        stored = float(min(width, height))
        if stored < SIDE:
            raise Reject("small")
        reason = "accepted"
    except Reject as why:
        reason = str(why)
    own["reasons"][reason] = own["reasons"].get(reason, 0) + 1
    counts.reasons[reason] = counts.reasons.get(reason, 0) + 1
    if f is None:
        return
    kept = reason == "accepted"
    counts.with_fields += 1
    for name in counts.scales:
        counts.value(name, stored if name == "stored_side" else f[name], kept)
    for word, there in (("all", True), ("kept", kept)):
        if there and not languages:
            counts.not_told[word] += 1
        for language in languages if there else ():
            counts.languages.setdefault(language, {"all": 0, "kept": 0})[word] += 1


def samples_of(path):
    key, members, duplicate = None, {}, False
    with tarfile.open(path) as tar:
        for info in tar:
            folder, _, base = info.name.rpartition("/")
            stem, _, suffix = base.partition(".")
            now = folder + "/" + stem
            if now != key:
                if key is not None:
                    yield members, duplicate
                key, members, duplicate = now, {}, False
            duplicate = duplicate or suffix.lower() in members
            members[suffix.lower()] = tar.extractfile(info).read()
    if key is not None:
        yield members, duplicate


def compare_all(ours, theirs, path=""):
    """Differences between the program's JSON and ours, which need not have the zeros."""
    out = []
    if isinstance(theirs, dict):
        for key in sorted(set(ours) | set(theirs)):
            out += compare_all(ours.get(key, 0 if not isinstance(theirs.get(key), (dict, list)) else {}),
                               theirs.get(key, 0), f"{path}.{key}")
    elif isinstance(theirs, list):
        if len(ours) != len(theirs):
            out.append(f"{path}: {len(ours)} and {len(theirs)}")
        for i, (a, b) in enumerate(zip(ours, theirs)):
            out += compare_all(a, b, f"{path}[{i}]")
    elif ours != theirs:
        out.append(f"{path}: here {ours}, vasily {theirs}")
    else:
        out += []
    return out


def numbers_in(value):
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 1 if inside is None else sum(numbers_in(v) for v in inside)


def config_text(sources, policy, folder):
    lines = ["data:", "  write_index: false", "  filter:", f"    missing: {policy}", "    watermark_max: 0.5",
             "    unsafe_max: 0.95", "    similarity_min: 0.2", "    aesthetic_min: 3", f"    min_side: {SIDE}",
             "    where:"]
    lines += ["      - " + json.dumps(text, ensure_ascii=False) for text, _ in EXPRESSIONS]
    lines.append("  sources:")
    for s in sources:
        lines += [f"    - name: {s['name']}", f"      shards: [\"{folder}/{s['name']}-*.tar\"]",
                  f"      caption: {s['caption']}", f"      language: \"{', '.join(s['choice'])}\"", "      where:"]
        lines += ["        - " + json.dumps(text) for text, _ in s["where"]] or ["        []"]
    return "\n".join(lines).replace("where:\n        []", "where: []") + "\n"


def main():
    program, samples = os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20000
    sources = [{"name": "one", "caption": "auto", "choice": ["ru", "en", "random"], "where": OWN},
               {"name": "two", "caption": "txt", "choice": ["en", "pt-br"], "where": []},
               {"name": "three", "caption": "json", "choice": ["first"], "where": []}]
    shares = [samples // 2, samples // 4, samples - samples // 2 - samples // 4]
    with tempfile.TemporaryDirectory() as folder:
        for source, share in zip(sources, shares):
            make(folder, share, source["name"])
        for policy in ("pass", "drop"):
            with open(f"{folder}/config.yaml", "w", encoding="utf-8") as file:
                file.write(config_text(sources, policy, folder))
            subprocess.run([program, "data", "stats", f"{folder}/config.yaml", "--json", f"{folder}/out.json"],
                           check=True, stdout=subprocess.DEVNULL)
            with open(f"{folder}/out.json", encoding="utf-8") as file:
                theirs = json.load(file)
            counts = Counts({name: h["edges"] for name, h in theirs["histograms"].items()})
            for source in sources:
                counts.sources[source["name"]] = {
                    "reasons": {}, "filters": [{"filter": r[0], "alone": 0, "after": 0, "missing": 0} for r in rules(source)]}
                for name in sorted(n for n in os.listdir(folder) if n.startswith(source["name"] + "-")):
                    for members, duplicate in samples_of(os.path.join(folder, name)):
                        look_at(members, duplicate, source, policy, counts)
            ours = {"looked_at": sum(counts.reasons.values()), "kept": counts.reasons.get("accepted", 0), "with_fields": counts.with_fields,
                    "reasons": counts.reasons, "languages": counts.languages, "languages_not_told": counts.not_told,
                    "pictures": counts.pictures,
                    "histograms": {n: {**h, "edges": counts.scales[n]} for n, h in counts.histograms.items()},
                    "sources": [{"reasons": counts.sources[s["name"]]["reasons"],
                                 "filters": counts.sources[s["name"]]["filters"]} for s in sources]}
            for source in theirs["sources"]:
                for key in ("name", "mixture", "shards", "unreadable_shards", "samples", "looked_at", "kept"):
                    del source[key]
            differences = compare_all(ours, theirs)
            print("\n".join(differences[:40]))
            print(f"missing: {policy}: {theirs['looked_at']} samples, {theirs['kept']} kept, {numbers_in(theirs)} numbers, "
                  f"{len(differences)} differ; reasons: "
                  + ", ".join(f"{k} {v}" for k, v in sorted(counts.reasons.items())))
            if differences:
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
