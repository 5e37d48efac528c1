#!/usr/bin/env python3
"""`vasily probe tokenize` against the tokenizer classes of Hugging Face transformers.

    python parity_tokenizers.py VASILY WORK_FOLDER [--cldr FOLDER] [--fixture FOLDER]

needs transformers, sentencepiece, protobuf and the package unicode-cldr-core. Trains two SentencePiece models on the
names of emoji, languages, countries and scripts in every language of CLDR that has 300 of them or more, one as XLM-R's
and one as mT5's, and compares all 77 ids of

    10,000 names and lists of names in these languages, a fifth of them longer than 77 tokens
    2,000 odd captions: white space, control characters, emoji, combining marks, unnormalised text, special tokens

with every class that the installed transformers has: before version 5 one that calls SentencePiece and a fast one, since
then only the fast one. Ours are SentencePiece's ids (style mt5-bytes: with byte fallback, as the SentencePiece class of
T5; style mt5: unknown characters are <unk>, as in the fast one). Fails when any of the 10,000 differs, or any of the odd
ones from a class that calls SentencePiece. The fast classes normalise some odd captions in their own way; how many is
printed. One more exception is theirs: T5's SentencePiece class adds no </s> to a caption that ends in one.

--fixture writes what tests/data/test_tokenizer.c reads: two small models and captions.json (transformers before 5).
"""

import argparse
import glob
import json
import os
import random
import shutil
import subprocess
import tempfile
import warnings
import xml.etree.ElementTree as ET

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
warnings.filterwarnings("ignore")

import sentencepiece
import transformers

MAX_TOKENS = 77
ODD = (
    "", "  ", "\t", "a  b", "a\tb", "a\u00a0b", "\u3000全角　スペース", "a\u200bb", "a\u200db", "\r", "a\rb", "a\x0bb",
    "a\x0cb", "\u2028x", "\u0085", "\x01\x02", "\x7f", "a\x1bb", "\ufeffx", "\ufffd", "\u00adsoft",
    "👩\u200d👩\u200d👧", "🇩🇪", "\U0001f9d1\U0001f3fd\u200d\U0001f33e", "🏴\U000e0067\U000e0062\U000e007f",
    "e\u0301", "é", "\u0301", "Å", "\u2126", "ﬁ", "①②", "ｶﾞ", "ガ", "カ\u3099", "한글", "\u1112\u1161\u11ab",
    "x\u0336y\u0336", "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334", "नि\u200dक", "ก็", "မြန်မာ", "ខ្មែរ",
    "İ", "ǅ", "ß", "㌀", "…", "½", "™", "ﷺ", "𝒳", "\U00010330", "\u200fעברית", "\u202aabc\u202c", "♞♟ ♞",
    "</s>", "a</s>b", "a </s> b", "hello </s>", "<pad>", "<s>", "<mask>", "a <mask> b", "<unk>", "x<unk>y", "<S>",
    "< /s>", "</s", "<<s>>", "<extra_id_0>", "<0xE2>", "▁", "a▁b", "▁▁", "\u2581 x", "&amp;", "http://x.y/z?a=b",
)


def cldr_names(folder):
    names = {}
    for kind in ("annotations", "annotationsDerived"):
        for path in sorted(glob.glob(os.path.join(folder, "common", kind, "*.xml"))):
            language = os.path.basename(path)[:-4].split("_")[0]
            for node in ET.parse(path).iter("annotation"):
                if node.get("type") == "tts":
                    names.setdefault(language, []).append(node.text)
    for path in sorted(glob.glob(os.path.join(folder, "common", "main", "*.xml"))):
        language = os.path.basename(path)[:-4]
        if "_" not in language:
            for tag in ("language", "territory", "script", "variant"):
                names.setdefault(language, []).extend(node.text for node in ET.parse(path).iter(tag))
    names = {k: [t for t in v if t and t.strip() and "↑" not in t and "\n" not in t] for k, v in names.items()}
    return {k: v for k, v in sorted(names.items()) if len(v) >= 300}


def train(path, lines, pieces, **options):
    with open(path, "wb") as out:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=out, model_type="unigram", normalization_rule_name="nmt_nfkc",
            character_coverage=0.9995, vocab_size=pieces, num_threads=1, minloglevel=2, **options)


def train_both(folder, names, lines_max, pieces):
    lines = [name for language in names.values() for name in language]
    random.Random(1).shuffle(lines)
    lines = lines[:lines_max]
    train(os.path.join(folder, "xlmr.model"), lines, pieces)
    train(os.path.join(folder, "mt5_bytes.model"), lines, pieces, byte_fallback=True, pad_id=0, eos_id=1, unk_id=2,
          bos_id=-1)


def usual_captions(names, count):
    draw = random.Random(7)
    languages = sorted(names)
    captions = []
    for i in range(count):
        words = names[languages[i % len(languages)]]
        kind = i % 10
        if kind < 5:
            captions.append(draw.choice(words))
        elif kind < 8:
            captions.append(", ".join(draw.choice(words) for _ in range(draw.randint(2, 6))))
        else:
            captions.append(" ".join(draw.choice(words) for _ in range(draw.randint(20, 60))))
    return captions


def odd_captions(count):
    draw = random.Random(8)
    letters = [letter for text in ODD for letter in text] + list("abc XYZ 123")
    more = ("".join(draw.choice(letters) for _ in range(draw.randint(1, 30))) for _ in range(count - len(ODD)))
    return list(ODD) + list(more)


def classes(style, model):
    """(name, tokenizer, calls SentencePiece, style of ours) of every class that there is."""
    t = transformers
    file = {"xlmr": "sentencepiece.bpe.model", "mt5": "spiece.model"}[style]
    if int(t.__version__.split(".")[0]) >= 5:
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(model, os.path.join(folder, file))
            if style == "xlmr":
                yield "XLMRobertaTokenizer", t.XLMRobertaTokenizer.from_pretrained(folder), False, "xlmr"
            else:
                yield "T5Tokenizer", t.T5Tokenizer.from_pretrained(folder, extra_ids=0), False, "mt5"
    elif style == "xlmr":
        yield "XLMRobertaTokenizer", t.XLMRobertaTokenizer(model), True, "xlmr"
        yield "XLMRobertaTokenizerFast", t.XLMRobertaTokenizerFast(model), False, "xlmr"
    else:
        yield "T5Tokenizer", t.T5Tokenizer(model, legacy=True, extra_ids=0), True, "mt5-bytes"
        yield "T5TokenizerFast", t.T5TokenizerFast(model, extra_ids=0), False, "mt5"


def their_ids(tokenizer, captions):
    return tokenizer(captions, max_length=MAX_TOKENS, padding="max_length", truncation=True)["input_ids"]


def our_ids(vasily, model, style, captions):
    text = "".join(caption + "\n" for caption in captions).encode()
    done = subprocess.run([vasily, "probe", "tokenize", "--model", model, "--style", style], input=text,
                          stdout=subprocess.PIPE, check=True)
    return [[int(number) for number in line.split()] for line in done.stdout.decode().split("\n")[:-1]]


def compare(vasily, folder, usual, odd):
    failed = False
    for style, file in (("xlmr", "xlmr.model"), ("mt5", "mt5_bytes.model")):
        model = os.path.join(folder, file)
        for name, tokenizer, sentencepiece_class, ours in classes(style, model):
            counts = []
            for captions in (usual, odd):
                got, want = our_ids(vasily, model, ours, captions), their_ids(tokenizer, captions)
                assert len(got) == len(captions)
                differ = [i for i, caption in enumerate(captions) if got[i] != want[i]
                          and not (ours == "mt5-bytes" and caption.rstrip().endswith("</s>"))]
                counts.append(len(differ))
                for i in differ[:3] if captions is usual or sentencepiece_class else ():
                    print("   ", repr(captions[i]), "\n      ours  ", got[i], "\n      theirs", want[i])
            cut = sum(row[-1] != tokenizer.pad_token_id for row in our_ids(vasily, model, ours, usual))
            print(f"{name} of transformers {transformers.__version__}, style {ours}: {counts[0]} of {len(usual)} captions "
                  f"differ ({cut} fill all {MAX_TOKENS} tokens), {counts[1]} of {len(odd)} odd ones")
            failed |= counts[0] > 0 or (sentencepiece_class and counts[1] > 0)
    return failed


def without_padding(row, pad):
    end = len(row)
    while end > 1 and row[end - 1] == pad:
        end -= 1
    return row[:end]


def write_fixture(folder, names):
    """Small models; names and odd captions with the ids of the classes that call SentencePiece, and of the fast T5."""
    train_both(folder, {k: v[:60] for k, v in names.items()}, 8000, 2000)
    usual, rows = usual_captions(names, 140), []
    captions = usual + odd_captions(len(ODD) + 60)
    columns = {}
    for style, file in (("xlmr", "xlmr.model"), ("mt5", "mt5_bytes.model")):
        for _, tokenizer, sentencepiece_class, ours in classes(style, os.path.join(folder, file)):
            if sentencepiece_class or ours == "mt5":
                columns[ours] = [without_padding(row, tokenizer.pad_token_id) for row in their_ids(tokenizer, captions)]
    for i, caption in enumerate(captions):
        row = {"text": caption, "xlmr": columns["xlmr"][i]}
        if not caption.rstrip().endswith("</s>"):
            row["mt5-bytes"] = columns["mt5-bytes"][i]
        if i < len(usual):
            row["mt5"] = columns["mt5"][i]
        rows.append(row)
    with open(os.path.join(folder, "captions.json"), "w") as out:
        out.write("[\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("vasily")
    parser.add_argument("work")
    parser.add_argument("--cldr", default="/usr/share/unicode/cldr")
    parser.add_argument("--fixture")
    arguments = parser.parse_args()
    names = cldr_names(arguments.cldr)
    os.makedirs(arguments.work, exist_ok=True)
    if not os.path.exists(os.path.join(arguments.work, "mt5_bytes.model")):
        train_both(arguments.work, names, 150000, 12000)
    print(f"{len(names)} languages")
    failed = compare(arguments.vasily, arguments.work, usual_captions(names, 10000), odd_captions(2000))
    if arguments.fixture:
        write_fixture(arguments.fixture, names)
    raise SystemExit(failed)


main()
